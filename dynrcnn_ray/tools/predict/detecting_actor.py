"""One worker of a prediction: a process that holds the model and detects on the pictures that it is given."""

import contextlib
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from pycocotools import mask as mask_utils

from dynrcnn_ray.config.errors import innermost_line
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.tools.predict.drawing import Painter
from dynrcnn_ray.tools.predict.pictures import Pixels, file_system, plain_stem, printable
from dynrcnn_ray.tools.predict.predictions import PICTURE
from dynrcnn_ray.tools.predict.predictor import Predictor
from dynrcnn_ray.tools.predict.reading_ahead import Read, read_ahead
from dynrcnn_ray.training.out_of_memory import is_out_of_memory


class DetectingActor:
    """Holds the model; reads pictures ahead in threads while it detects."""

    def __init__(self, described: dict[str, Any]) -> None:
        """Load the model on this process's device."""
        warnings.filterwarnings("ignore")
        trial: Trial = described["trial"]
        config = trial.config
        torch.set_num_threads(config.run.threads_per_worker)
        device = torch.device("cuda" if config.run.gpu else "cpu")
        names: dict[int, str] = described["category_names"]
        checkpoint = described["checkpoint"]
        if isinstance(checkpoint, ray.ObjectRef):
            checkpoint = ray.get(checkpoint)
        self._predictor = Predictor(trial, checkpoint, described["training_id"], sorted(names), device)
        self._min_score: float = described["min_score"]
        self._drawings = Path(described["drawings"]) if described["drawings"] else None
        self._painter = Painter(names) if self._drawings else None
        self._source = file_system(described["source"])

    def __call__(self, table: pa.Table) -> pa.Table:
        """What is found in some pictures, as rows of `PICTURE`."""
        rows = table.to_pylist()
        if "path" in table.column_names:
            paths = [os.fsdecode(row["path"]) for row in rows]
            rows = [row | {"file_name": printable(path)} for row, path in zip(rows, paths, strict=True)]
            reads = read_ahead(paths, self._source)
        else:
            reads = (_read_frame(row) for row in rows)
        with contextlib.closing(reads):
            found = [self._found(row, *read) for row, read in zip(rows, reads, strict=True)]
        return pa.Table.from_pylist(found, schema=PICTURE)

    def _found(self, row: dict[str, Any], pixels: Pixels | None, error: str) -> dict[str, Any]:
        own = {"image_id": row["image_id"], "file_name": row["file_name"]}
        if pixels is None:
            return own | {"error": error}
        try:
            found = self._predictor(pixels, min_score=self._min_score)
        except Exception as problem:  # Whatever it is, the other pictures have nothing to do with it.
            _end_if_the_gpu_is_lost(problem)
            size = f"{pixels.shape[1]}x{pixels.shape[0]} pixels"
            return own | {"error": f"cannot be detected on ({size}): {innermost_line(problem, 200)}"}
        return own | {
            **(self._draw(row, pixels, found) if self._drawings else {}),
            "height": pixels.shape[0],
            "width": pixels.shape[1],
            "category_ids": found.category_ids.tolist(),
            "scores": found.scores.tolist(),
            "boxes": found.boxes.tolist(),
            "masks": None if found.masks is None else [mask["counts"].decode() for mask in found.masks],
        }

    def _draw(self, row: dict[str, Any], pixels: Pixels, found: Any) -> dict[str, Any]:
        """Write the picture with what is found, or give a frame back so; why not, if it cannot be drawn."""
        assert self._painter is not None
        assert self._drawings is not None
        masks = None
        try:
            if found.masks is not None and len(found.masks):
                encoded: Any = list(found.masks)
                masks = mask_utils.decode(encoded).transpose(2, 0, 1).astype(bool)
            picture = self._painter.draw(pixels, found.boxes, found.scores, found.category_ids, masks)
            if "pixels" in row:
                return {"drawn": picture}
            self._drawings.mkdir(exist_ok=True)
            (self._drawings / _drawing_name(row)).write_bytes(picture)
        except Exception as problem:  # As in `_found`; JPEG has no picture of more than 65,500 pixels a side.
            return {"not_drawn": innermost_line(problem, 200)}
        return {}


def _drawing_name(row: dict[str, Any]) -> str:
    return f"{row['image_id']:08d}_{plain_stem(row['file_name'])}.jpg"


def _end_if_the_gpu_is_lost(error: Exception) -> None:
    """After some errors a process can use its GPU no more: another one goes on in its place."""
    if isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error):
        os._exit(1)


def _read_frame(row: dict[str, Any]) -> Read:
    if row["error"] is not None:
        return Read(None, row["error"])
    shape = (row["height"], row["width"], 3)
    return Read(np.frombuffer(bytearray(row["pixels"]), dtype=np.uint8).reshape(shape))
