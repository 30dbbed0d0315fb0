"""The results file that the COCO server takes: a JSON list of detections."""

import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dynrcnn_ray.config.errors import DynrcnnError
from dynrcnn_ray.evaluation.coco_ap import Detections
from dynrcnn_ray.evaluation.matching import DetectionArrays


class ResultsFileError(DynrcnnError, ValueError):
    """A results file that the server would refuse. Its text is one line."""

    would_repeat = True


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
    rows = _read_list(file)
    _check_rows(file, rows, set(image_ids), set(category_ids))
    return len(rows)


def read_results(file: Path, annotations: Path) -> tuple[DetectionArrays, list[str]]:
    """Read the results that any program has written for a split.

    Images may be named by their file, as YOLO does: by its name or, where that is a number, by the number.

    Args:
        file: the results, a JSON list of detections as the COCO server takes it.
        annotations: the split's annotations, as they were prepared for training.

    Returns:
        The detections, and notes on what was read otherwise.

    Raises:
        ResultsFileError: naming the first detection that is wrong.
    """
    split = json.loads(annotations.read_bytes())
    rows = _read_list(file)
    images = {image["id"] for image in split["images"]}
    by_name = {_stem(image["file_name"]): image["id"] for image in split["images"]}
    is_unique = len(by_name) == len(images)
    notes = _taken_by_number(file, rows, split["images"])
    named = 0
    for row in rows:
        name = row.get("image_id") if isinstance(row, dict) else None
        if isinstance(name, str):
            known = by_name.get(_stem(name)) if is_unique else None
            row["image_id"] = int(name) if known is None and name.isdecimal() else known if known is not None else name
            named += 1
    notes += [f"{file}: {named} detections name their image as text; taken by it"] if named else []
    _check_rows(file, rows, images, {category["id"] for category in split["categories"]})
    corners = np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    arrays = DetectionArrays(
        image_ids=np.array([row["image_id"] for row in rows], dtype=np.int64),
        category_ids=np.array([row["category_id"] for row in rows], dtype=np.int64),
        scores=np.array([row["score"] for row in rows], dtype=np.float64),
        boxes=corners,
    )
    return arrays, notes


def _taken_by_number(file: Path, rows: Sequence[Any], images: Sequence[Any]) -> list[str]:
    """Give detections that name their image by the number in its file's name the image's id, and say so."""
    stems = [_stem(image["file_name"]) for image in images]
    if not all(stem.isdecimal() for stem in stems):
        return []
    by_number = {int(stem): image["id"] for stem, image in zip(stems, images, strict=True)}
    numbered = [row for row in rows if isinstance(row, dict) and type(row.get("image_id")) is int]
    given = {row["image_id"] for row in numbered}
    is_other = any(number != image_id for number, image_id in by_number.items()) and len(by_number) == len(images)
    if not is_other or not given or not given <= by_number.keys():
        return []
    if given <= set(by_number.values()):
        return [
            f"{file}: image_id may be the image's id in the annotations or the number in its file's name, which "
            "differ; taken as the id. Where the number was meant, as YOLO writes it, give the images those ids"
        ]
    for row in numbered:
        row["image_id"] = by_number[row["image_id"]]
    return [f"{file}: image_id is the number in the image's file name, not its id in the annotations; taken by it"]


def _stem(name: str) -> str:
    return Path(name.replace("\\", "/")).stem


def _read_list(file: Path) -> list[Any]:
    try:
        rows = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ResultsFileError(f"{file}: no readable JSON ({error})") from None
    if not isinstance(rows, list):
        raise ResultsFileError(f"{file}: holds a {type(rows).__name__}; the server takes a list of detections")
    return rows


def _check_rows(file: Path, rows: Sequence[Any], images: set[int], categories: set[int]) -> None:
    for number, row in enumerate(rows):
        if complaint := _complaint(row, images, categories):
            raise ResultsFileError(f"{file}: detection {number}: {complaint}")


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
    if not isinstance(row["image_id"], int | str) or row["image_id"] not in images:
        return f"image_id {row['image_id']!r} is not in the split"
    if not isinstance(row["category_id"], int) or row["category_id"] not in categories:
        return f"category_id {row['category_id']!r} is no category of the data set"
    box = row["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(value, int | float) for value in box):
        return f"bbox {box!r} must be four numbers: x, y, width, height"
    if not (min(box[2:]) >= 0 and all(abs(value) <= sys.float_info.max for value in box)):
        return f"bbox {box!r} must be finite, with a width and height from 0"
    if not isinstance(row["score"], int | float) or not 0 <= row["score"] <= 1:
        return f"score {row['score']!r} must be from 0 to 1"
    return ""
