"""COCO evaluation at the size of val2017 against pycocotools, on generated detections."""

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dynrcnn_ray.benchmarks.paired import paired, timed
from dynrcnn_ray.benchmarks.schema import Row, at_least, at_most, compared_row, stated_row
from dynrcnn_ray.benchmarks.workbench import Workbench
from dynrcnn_ray.evaluation.coco_ap import METRICS, Detections, evaluate_against
from dynrcnn_ray.evaluation.ground_truth import read_ground_truth

NUM_IMAGES = 5000
_DETECTIONS = 100
_CATEGORIES = 80
_OBJECTS = 7
_SIDE = 640
_SIZES = ("all", "small", "medium", "large")


def measure_evaluation(bench: Workbench, rounds: int, num_images: int = NUM_IMAGES) -> Iterator[Row]:
    """From detections in memory to the metrics; reading annotations and results is timed on neither side."""
    rng = np.random.default_rng(0)
    file, boxes, categories = _write_annotations(rng, num_images, bench.scratch)
    detections = _detections(rng, boxes, categories)
    truth = read_ground_truth(file)
    found: dict[str, dict[str, float | None]] = {}

    def ours() -> None:
        found["ours"] = evaluate_against(truth, detections)

    evaluate = _pycocotools(file, detections)

    def theirs() -> None:
        found["pycocotools"] = evaluate()

    result = paired(timed(theirs), timed(ours), rounds=rounds, warm_up=0)
    difference = max(abs((found["ours"][name] or 0) - (found["pycocotools"][name] or 0)) for name in METRICS)
    size = f"{num_images} images x {_DETECTIONS} detections x {_CATEGORIES} categories"
    yield compared_row(
        "evaluation.speed",
        f"pycocotools' evaluation of {size}",
        "ours",
        result,
        "seconds",
        must=at_least(8),
        note="pycocotools: evaluate, accumulate and summarize; reading the annotations and results is timed on neither "
        "side",
    )
    yield stated_row(
        "evaluation.difference",
        "largest difference of any metric to pycocotools'",
        difference / 100,
        "of 0 to 1",
        must=at_most(1e-9, "of 0 to 1"),
    )


def _write_annotations(rng: np.random.Generator, num_images: int, folder: Path) -> tuple[Path, Any, Any]:
    """Some seven objects an image; boxes `[num_images, objects, 4]` (xywh) and categories of each."""
    extent = np.exp(rng.uniform(np.log(8), np.log(400), (num_images, _OBJECTS, 2)))
    corner = rng.uniform(0, 1, extent.shape) * (_SIDE - extent)
    boxes = np.concatenate([corner, extent], axis=2).round(2)
    categories = rng.integers(1, _CATEGORIES + 1, boxes.shape[:2])
    annotations = [
        {
            "id": image * _OBJECTS + place + 1,
            "image_id": image + 1,
            "category_id": int(categories[image, place]),
            "bbox": boxes[image, place].tolist(),
            "area": float(boxes[image, place, 2] * boxes[image, place, 3] * 0.7),
            "iscrowd": int(rng.random() < 0.01),
        }
        for image in range(num_images)
        for place in range(_OBJECTS)
    ]
    content = {
        "images": [{"id": image + 1, "width": _SIDE, "height": _SIDE} for image in range(num_images)],
        "categories": [{"id": category, "name": str(category)} for category in range(1, _CATEGORIES + 1)],
        "annotations": annotations,
    }
    file = folder / "instances_generated.json"
    file.write_text(json.dumps(content))
    return file, boxes, categories


def _detections(rng: np.random.Generator, boxes: NDArray[Any], categories: NDArray[Any]) -> list[Detections]:
    """A hundred boxes an image around its objects, most of the right category, the better ones with higher scores."""
    entries = []
    for image in range(len(boxes)):
        near = rng.integers(0, _OBJECTS, _DETECTIONS)
        spread = rng.exponential(0.15, _DETECTIONS)
        x, y, width, height = boxes[image, near].T
        left, top = (start + rng.normal(0, spread) * size for start, size in ((x, width), (y, height)))
        width, height = (size * np.exp(rng.normal(0, spread)) for size in (width, height))
        category = np.where(
            rng.random(_DETECTIONS) < 0.6, categories[image, near], rng.integers(1, _CATEGORIES + 1, _DETECTIONS)
        )
        scores = np.exp(-3 * spread) * rng.uniform(0.5, 1, _DETECTIONS)
        corners = np.stack([left, top, left + width, top + height], axis=1)
        entries.append(Detections(image + 1, corners, scores, category))
    return entries


def _pycocotools(file: Path, detections: list[Detections]) -> Callable[[], dict[str, float | None]]:
    rows: Any = [
        {"image_id": entry.image_id, "category_id": category, "score": score, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        for entry in detections
        for (x1, y1, x2, y2), score, category in zip(
            entry.boxes.tolist(), entry.scores.tolist(), entry.category_ids.tolist(), strict=True
        )
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(file))
        results = truth.loadRes(rows)

    def evaluate() -> dict[str, float | None]:
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(truth, results, "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return {name: _metric(evaluation, name) for name in METRICS}

    return evaluate


def _metric(evaluation: Any, name: str) -> float | None:
    """A metric from pycocotools' array of precisions `[IoU, recall, category, size, detections]`, in percent."""
    size = next((index for index, size in enumerate(_SIZES) if name == f"AP_{size[0].upper()}"), 0)
    precision = evaluation.eval["precision"][..., size, -1]
    if name[2:].isdecimal():
        precision = precision[round((int(name[2:]) - 50) / 5)]
    valid = precision[precision > -1]
    return 100 * float(valid.mean()) if valid.size else None
