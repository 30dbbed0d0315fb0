"""COCO evaluation at the size of val2017 against pycocotools and hotcoco, on generated detections."""

import contextlib
import importlib.util
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.paired import paired, timed
from benchmarks.schema import Row, at_least, at_most, compared_row, stated_row
from benchmarks.workbench import Workbench
from dynrcnn_ray.evaluation.coco_ap import Detections, evaluate_against
from dynrcnn_ray.evaluation.ground_truth import read_ground_truth
from dynrcnn_ray.store.schemas import METRICS

NUM_IMAGES = 5000
_DETECTIONS = 100
_CATEGORIES = 80
_OBJECTS = 7
_SIDE = 640
_SIZES = ("all", "small", "medium", "large")

_Metrics = dict[str, float | None]


def measure_evaluation(bench: Workbench, rounds: int, num_images: int = NUM_IMAGES) -> Iterator[Row]:
    """From detections in memory to the metrics; reading annotations and results is timed on neither side."""
    rng = np.random.default_rng(0)
    file, boxes, categories = _write_annotations(rng, num_images, bench.scratch)
    detections = _detections(rng, boxes, categories)
    truth = read_ground_truth(file)
    found: dict[str, _Metrics] = {}

    def kept(name: str, evaluate: Callable[[], _Metrics]) -> Callable[[], float]:
        return timed(lambda: found.update({name: evaluate()}))

    def evaluate_ours(threads: int = 1) -> _Metrics:
        return evaluate_against(truth, detections, threads=threads)

    ours = kept("ours", evaluate_ours)
    size = f"{num_images} images x {_DETECTIONS} detections x {_CATEGORIES} categories"
    yield compared_row(
        "evaluation.speed",
        f"pycocotools' evaluation of {size}",
        "ours",
        paired(kept("pycocotools", _pycocotools(file, detections)), ours, rounds=rounds, warm_up=0),
        "seconds",
        must=at_least(8),
        note="pycocotools: evaluate, accumulate and summarize; reading the annotations and results is timed on neither "
        "side",
    )
    yield _difference_row("evaluation.difference", "pycocotools", found)
    if importlib.util.find_spec("hotcoco"):
        hotcoco = _hotcoco(file, detections)
        note = "hotcoco: evaluate and accumulate. Turning the results into its own form is not timed"
        yield compared_row(
            "evaluation.hotcoco",
            f"CPU time of hotcoco's evaluation of {size}",
            "ours",
            paired(timed(hotcoco, time.process_time), timed(evaluate_ours, time.process_time), rounds=5 * rounds),
            "CPU seconds",
            must=at_least(1),
            note=note,
        )
        threads = len(os.sched_getaffinity(0))
        on_all_cores = kept("ours", partial(evaluate_ours, threads))
        yield compared_row(
            "evaluation.hotcoco_clock",
            "the same by the clock",
            "ours",
            paired(kept("hotcoco", hotcoco), on_all_cores, rounds=5 * rounds),
            "seconds",
            must=at_least(1),
            note=f"{note}. Both take {threads} threads, one a core; RAYON_NUM_THREADS decides hotcoco's",
        )
        yield _difference_row("evaluation.hotcoco_difference", "hotcoco", found)


def _difference_row(name: str, peer: str, found: dict[str, _Metrics]) -> Row:
    return stated_row(
        name,
        f"largest difference of any metric to {peer}'s",
        max(abs((found["ours"][metric] or 0) - (found[peer][metric] or 0)) for metric in METRICS) / 100,
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


def _pycocotools(file: Path, detections: list[Detections]) -> Callable[[], _Metrics]:
    rows: Any = [
        {"image_id": image, "category_id": category, "score": score, "bbox": box}
        for image, *box, score, category in _as_array(detections).tolist()
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(file))
        results = truth.loadRes(rows)

    def evaluate() -> _Metrics:
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(truth, results, "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return {name: _metric(evaluation, name) for name in METRICS}

    return evaluate


def _hotcoco(file: Path, detections: list[Detections]) -> Callable[[], _Metrics]:
    import hotcoco  # A development dependency.

    truth = hotcoco.COCO(str(file))
    results = truth.loadRes(_as_array(detections))

    def evaluate() -> _Metrics:
        evaluation = hotcoco.COCOeval(truth, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        return {name: _metric(evaluation, name) for name in METRICS}

    return evaluate


def _as_array(detections: list[Detections]) -> NDArray[np.float64]:
    """`[n, 7]`: image, box (x, y, width, height), score and category of each."""
    return np.concatenate(
        [
            np.column_stack(
                [
                    np.full(len(entry.scores), entry.image_id),
                    entry.boxes[:, :2],
                    entry.boxes[:, 2:] - entry.boxes[:, :2],
                    entry.scores,
                    entry.category_ids,
                ]
            )
            for entry in detections
        ]
    )


def _metric(evaluation: Any, name: str) -> float | None:
    """A metric in percent, from the arrays that pycocotools and hotcoco both leave.

    Those are the precisions `[IoU, recall, category, size, detections]` and the recalls `[IoU, category, size,
    detections]`.
    """
    size = next((index for index, size in enumerate(_SIZES) if name == f"AP_{size[0].upper()}"), 0)
    values = evaluation.eval["precision"][..., size, -1]
    if name.startswith("AR"):
        values = evaluation.eval["recall"][..., size, list(evaluation.params.maxDets).index(int(name[2:]))]
    elif name[2:].isdecimal():
        values = values[round((int(name[2:]) - 50) / 5)]
    valid = values[values > -1]
    return 100 * float(valid.mean()) if valid.size else None
