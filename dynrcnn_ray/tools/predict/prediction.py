"""A trained detector over pictures by Ray Data: actors hold the model, the driver writes what they find as it comes."""

import contextlib
import logging
import math
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import ray
from numpy.typing import NDArray

from dynrcnn_ray.config.extras import import_extra
from dynrcnn_ray.config.sections import CheckpointName
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import from_yaml, to_yaml
from dynrcnn_ray.execution.cluster import ray_cluster, trials_at_once
from dynrcnn_ray.tools.predict.predictions import PICTURE, PredictionFiles

_MOST_AT_ONCE = 128
"""Pictures an actor is given at once. Few are balanced better, many cost less."""
_SHARES_OF_A_WORKER = 8
_FRAMES_AT_ONCE = 8
_READERS = 2
_MOST_READ_AHEAD = 4
_SECONDS_BETWEEN_LINES = 5.0
_PLAIN = ("training_id", "category_names", "storage", "checkpoint", "min_score", "pictures", "source")


@dataclass(frozen=True)
class Prediction:
    """What to detect, and with what.

    Attributes:
        config: the trial, with the workers of this prediction.
        training_id: whose checkpoint it is.
        category_names: name of each category by its id.
        storage: the store's absolute path or URI.
        checkpoint: which of the trial's.
        min_score: detections below are left out.
        pictures: folder for the drawn pictures; empty draws none.
        source: the URI whose file system has what is detected on; empty: each node's own.
    """

    config: TrialConfig
    training_id: str
    category_names: dict[int, str]
    storage: str
    checkpoint: CheckpointName
    min_score: float
    pictures: str
    source: str = ""


def predict_pictures(
    prediction: Prediction, paths: list[str], files: PredictionFiles, tell: Callable[[str], None]
) -> None:
    """Detect on pictures, in their order.

    Args:
        prediction: what to detect, and with what.
        paths: as listed, files that every node can read.
        files: takes what is found.
        tell: is told how far it is, every few seconds.

    Raises:
        ConfigError: the cluster is too small for the workers.
    """
    at_once = _pictures_at_once(len(paths), prediction.config.run.num_workers)
    rows = [{"image_id": number, "file_name": path} for number, path in enumerate(paths, start=1)]
    with _ray_data(prediction.config):
        pictures = ray.data.from_items(rows, override_num_blocks=math.ceil(len(rows) / at_once))
        _run(prediction, pictures, len(paths), files, tell)


def open_video(path: str) -> Any:
    """Size and number of frames of a video.

    Raises:
        DataError: it cannot be read.
        MissingExtraError: supervision is not installed.
    """
    from dynrcnn_ray.data.annotations import DataError

    supervision = import_extra("supervision", "predict")
    try:
        return supervision.VideoInfo.from_video_path(path)
    except Exception as error:  # Supervision raises no type of its own.
        what = "copy it to a file" if "://" in path else "it is damaged, or of a codec that OpenCV lacks"
        raise DataError(f"--images: {path!r} cannot be read as a video ({error}); {what}") from None


def predict_video(
    prediction: Prediction, path: str, video: Any, files: PredictionFiles, tell: Callable[[str], None]
) -> None:
    """Detect on the frames of a video; a frame's id is its number, from 1. The other arguments are those of pictures.

    Args:
        prediction: what to detect, and with what.
        path: the video's.
        video: from `open_video`.
        files: takes what is found.
        tell: is told how far it is.

    Raises:
        ConfigError: the cluster is too small for the workers.
    """
    with _ray_data(prediction.config):
        frames = _frames_of_video(path, bytes_of_frame=3 * video.width * video.height)
        _run(prediction, frames, video.total_frames, files, tell)


def _frames_of_video(path: str, bytes_of_frame: int) -> Any:
    """The frames as a data set whose blocks are a few frames: a block is what one actor is given."""
    # Else Ray Data joins them to blocks of 128 MiB, and one actor would get most videos whole.
    ray.data.DataContext.get_current().target_max_block_size = _FRAMES_AT_ONCE * bytes_of_frame
    # The actors may hold all cores.
    return ray.data.from_items([{"file_name": path}]).map_batches(_frames, num_cpus=0, batch_format="pyarrow")


def _pictures_at_once(count: int, workers: int) -> int:
    return min(max(1, math.ceil(count / (workers * _SHARES_OF_A_WORKER))), _MOST_AT_ONCE)


@contextlib.contextmanager
def _ray_data(config: TrialConfig) -> Iterator[None]:
    """A cluster with Ray Data on it, quietly."""
    import_extra("ray.data", "predict")
    for name in ("ray.data", "ray.data._internal"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Such as that a video is one input for several actors: its frames are handed to all.
    warnings.filterwarnings("ignore", module=r"ray\.data")
    with ray_cluster():
        trials_at_once(config.run)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        yield


def _run(
    prediction: Prediction,
    pictures: Any,
    total: int,
    files: PredictionFiles,
    tell: Callable[[str], None],
) -> None:
    run = prediction.config.run
    found = pictures.map_batches(
        DetectingActor,
        fn_constructor_args=(_described(prediction),),
        compute=ray.data.ActorPoolStrategy(size=run.num_workers),
        num_cpus=run.cpus_per_worker,
        num_gpus=run.gpu,
        batch_size=None,
        batch_format="pyarrow",
    )
    progress = _Progress(files, total)
    told = time.perf_counter()
    for table in found.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        files.add(table)
        progress.start_clock()
        if time.perf_counter() - told > _SECONDS_BETWEEN_LINES:
            told = time.perf_counter()
            tell(progress.line())
    tell(progress.line())


class _Progress:
    """How far it is, and how fast once the actors have started."""

    def __init__(self, files: PredictionFiles, total: int) -> None:
        self._files, self._total = files, total
        self._began: tuple[float, int] | None = None

    def start_clock(self) -> None:
        """The first pictures are done: how long they took says nothing of the speed."""
        if self._began is None:
            self._began = time.perf_counter(), self._done

    def line(self) -> str:
        """How many are done, pictures a second, the time that is left, and bad files."""
        parts = [f"{self._done}/{self._total} pictures"]
        if self._began is not None and self._done > self._began[1]:
            rate = (self._done - self._began[1]) / (time.perf_counter() - self._began[0])
            parts.append(f"{rate:.1f} pictures/s")
            if self._done < self._total:
                parts.append(f"left {round((self._total - self._done) / rate)}s")
        if self._files.bad:
            parts.append(f"{len(self._files.bad)} bad files")
        return "  ".join(parts)

    @property
    def _done(self) -> int:
        return self._files.pictures + len(self._files.bad)


def _described(prediction: Prediction) -> dict[str, Any]:
    """What an actor is given: plain values."""
    return {name: getattr(prediction, name) for name in _PLAIN} | {"config": to_yaml(prediction.config)}


def _frames(table: pa.Table) -> Iterator[pa.Table]:
    """The frames of videos, a few at once, so that a video of any length fits in memory."""
    supervision = import_extra("supervision", "predict")
    for path in table["file_name"].to_pylist():
        frames: list[dict[str, Any]] = []
        for number, pixels in enumerate(supervision.get_video_frames_generator(path), start=1):
            # Supervision's frames are BGR.
            rgb = np.ascontiguousarray(pixels[:, :, ::-1])
            name = f"{Path(path).name}#{number}"
            shape = {"width": rgb.shape[1], "height": rgb.shape[0]}
            frames.append({"image_id": number, "file_name": name, **shape, "pixels": rgb.tobytes()})
            if len(frames) == _FRAMES_AT_ONCE:
                yield pa.Table.from_pylist(frames)
                frames = []
        if frames:
            yield pa.Table.from_pylist(frames)


class DetectingActor:
    """Holds the model; reads pictures ahead in threads while it detects."""

    def __init__(self, described: dict[str, Any]) -> None:
        """Load the model on this process's device."""
        import torch

        from dynrcnn_ray.execution.checkpoints import CheckpointFolder
        from dynrcnn_ray.store.files import StoreFiles
        from dynrcnn_ray.tools.predict.drawing import Painter
        from dynrcnn_ray.tools.predict.pictures import file_system
        from dynrcnn_ray.tools.predict.predictor import Predictor

        warnings.filterwarnings("ignore")
        config = from_yaml(described["config"])
        torch.set_num_threads(config.run.threads_per_worker)
        device = torch.device("cuda" if config.run.gpu else "cpu")
        names: dict[int, str] = described["category_names"]
        folder = CheckpointFolder(StoreFiles.open(described["storage"]), described["training_id"])
        checkpoint, _ = folder.require(described["checkpoint"], last_step=config.total_steps)
        self._predictor = Predictor(config, checkpoint, described["training_id"], sorted(names), device)
        self._min_score: float = described["min_score"]
        self._painter = Painter(names) if described["pictures"] else None
        self._files = StoreFiles.open(described["pictures"] or ".")
        self._source = file_system(described["source"])

    def __call__(self, table: pa.Table) -> pa.Table:
        """What is found in some pictures, as rows of `PICTURE`."""
        rows = table.to_pylist()
        with ThreadPoolExecutor(_READERS) as readers:
            found = [self._found(row, *read) for row, read in _read_ahead(readers, rows, self._source)]
        return pa.Table.from_pylist(found, schema=PICTURE)

    def _found(self, row: dict[str, Any], pixels: NDArray[np.uint8] | None, error: str) -> dict[str, Any]:
        own = {"image_id": row["image_id"], "file_name": row["file_name"]}
        if pixels is None:
            return own | {"error": error}
        found = self._predictor(pixels, min_score=self._min_score)
        if self._painter is not None:
            self._draw(row, pixels, found)
        return own | {
            "height": pixels.shape[0],
            "width": pixels.shape[1],
            "category_ids": found.category_ids.tolist(),
            "scores": found.scores.tolist(),
            "boxes": found.boxes.tolist(),
            "masks": None if found.masks is None else [mask["counts"].decode() for mask in found.masks],
        }

    def _draw(self, row: dict[str, Any], pixels: NDArray[np.uint8], found: Any) -> None:
        from pycocotools import mask as mask_utils

        assert self._painter is not None
        masks = None
        if found.masks is not None and len(found.masks):
            encoded: Any = list(found.masks)
            masks = mask_utils.decode(encoded).transpose(2, 0, 1).astype(bool)
        picture = self._painter.draw(pixels, found.boxes, found.scores, found.category_ids, masks)
        name = "frame" if "pixels" in row else Path(row["file_name"]).stem
        self._files.write_bytes(f"{row['image_id']:08d}_{name}.jpg", picture)


def _read_ahead(
    readers: ThreadPoolExecutor, rows: Sequence[dict[str, Any]], source: pafs.FileSystem | None
) -> Iterator[tuple[dict[str, Any], tuple[NDArray[np.uint8] | None, str]]]:
    """Each row with its picture, in order; a few are read meanwhile, as a block of large photographs is gigabytes."""
    reading: deque[Future[tuple[NDArray[np.uint8] | None, str]]] = deque()
    ahead = iter(rows)
    for row in rows:
        reading.extend(readers.submit(_read, each, source) for each in islice(ahead, _MOST_READ_AHEAD - len(reading)))
        yield row, reading.popleft().result()


def _read(row: dict[str, Any], source: pafs.FileSystem | None) -> tuple[NDArray[np.uint8] | None, str]:
    """A picture's pixels; or none, and why."""
    from dynrcnn_ray.tools.predict.pictures import UnreadablePictureError, decode_picture, read_content

    if "pixels" in row:
        shape = (row["height"], row["width"], 3)
        return np.frombuffer(bytearray(row["pixels"]), dtype=np.uint8).reshape(shape), ""
    try:
        return decode_picture(read_content(row["file_name"], source)), ""
    except UnreadablePictureError as error:
        return None, str(error)
