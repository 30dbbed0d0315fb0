"""The results file that the COCO server takes: a JSON list of detections."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from dynrcnn_ray.evaluation.coco_ap import Detections


class ResultsFileError(ValueError):
    """A results file that the server would refuse. Its text is one line."""


def results_bytes(detections: Sequence[Detections]) -> bytes:
    """The detections in the server's format: boxes as x, y, width and height, masks as RLE."""
    return json.dumps([row for entry in detections for row in _rows(entry)]).encode()


def check_results(file: Path, *, image_ids: Collection[int], category_ids: Collection[int]) -> int:
    """Read a results file back and check every detection as the server does.

    Args:
        file: the results.
        image_ids: the split's images.
        category_ids: the data set's categories.

    Returns:
        The number of detections.

    Raises:
        ResultsFileError: naming the first detection that is wrong.
    """
    try:
        rows = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ResultsFileError(f"{file}: no readable JSON ({error})") from None
    if not isinstance(rows, list):
        raise ResultsFileError(f"{file}: holds a {type(rows).__name__}; the server takes a list of detections")
    images, categories = set(image_ids), set(category_ids)
    for number, row in enumerate(rows):
        complaint = _complaint(row, images, categories)
        if complaint:
            raise ResultsFileError(f"{file}: detection {number}: {complaint}")
    return len(rows)


def _rows(entry: Detections) -> list[dict[str, Any]]:
    rows = []
    for index, (left, top, right, bottom) in enumerate(entry.boxes.tolist()):
        row = {
            "image_id": entry.image_id,
            "category_id": int(entry.category_ids[index]),
            "bbox": [round(value, 3) for value in (left, top, right - left, bottom - top)],
            "score": round(float(entry.scores[index]), 6),
        }
        if entry.masks is not None:
            mask = entry.masks[index]
            row["segmentation"] = {"size": list(mask["size"]), "counts": mask["counts"].decode()}
        rows.append(row)
    return rows


def _complaint(row: Any, images: set[int], categories: set[int]) -> str:
    """What is wrong with a detection; nothing if it is fine."""
    if not isinstance(row, dict) or not {"image_id", "category_id", "bbox", "score"} <= row.keys():
        return "needs image_id, category_id, bbox and score"
    if row["image_id"] not in images:
        return f"image_id {row['image_id']!r} is not in the split"
    if row["category_id"] not in categories:
        return f"category_id {row['category_id']!r} is no category of the data set"
    box = row["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(value, int | float) for value in box):
        return f"bbox {box!r} must be four numbers: x, y, width, height"
    if not (min(box[2:]) >= 0 and all(abs(value) < float("inf") for value in box)):
        return f"bbox {box!r} must be finite, with a width and height from 0"
    if not isinstance(row["score"], int | float) or not 0 <= row["score"] <= 1:
        return f"score {row['score']!r} must be from 0 to 1"
    return ""
