"""COCO average precision and recall of a whole split: pycocotools' numbers, many times faster."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynrcnn_ray.evaluation.average_precision import average_precision, recall
from dynrcnn_ray.evaluation.ground_truth import GroundTruth, positions, read_ground_truth
from dynrcnn_ray.evaluation.matching import IOU_THRESHOLDS, SIZES, DetectionArrays, match
from dynrcnn_ray.store.schemas import METRICS

_VALUES = ("AP", "AP_S", "AP_M", "AP_L", "AR1", "AR10", "AR100")
"""What is computed of each category. The first four are in the order of `SIZES`."""


class Detections(NamedTuple):
    """One image's detections.

    Attributes:
        image_id: the image's id in the annotations.
        boxes: `[n, 4]`, xyxy pixels of the original image.
        scores: `[n]`.
        category_ids: `[n]`, ids of the annotations' categories.
        masks: a compressed RLE each, where the model predicts masks.
    """

    image_id: int
    boxes: np.ndarray
    scores: np.ndarray
    category_ids: np.ndarray
    masks: Sequence[Any] | None = None


def evaluate_detections(
    annotation_file: Path, detections: Sequence[Detections], *, kind: Literal["bbox", "segm"] = "bbox"
) -> dict[str, float | None]:
    """Average precision and recall in percent of boxes or masks, for each of `METRICS`.

    Crowds count as COCO's rules have it. A metric without any ground truth, such as `AP_L` on small objects, is None.

    Args:
        annotation_file: the split's annotations.
        detections: one entry for each image of the split, in any order.
        kind: what to compare.

    Raises:
        ValueError: an image of the split has no entry, or has two.
    """
    return evaluate_against(read_ground_truth(annotation_file), detections, kind=kind)


def evaluate_against(
    truth: GroundTruth,
    detections: Sequence[Detections],
    *,
    kind: Literal["bbox", "segm"] = "bbox",
    threads: int = 1,
) -> dict[str, float | None]:
    """The same as `evaluate_detections`, with annotations that were read before.

    Args:
        truth: the split's objects.
        detections: one entry for each image of the split, in any order.
        kind: what to compare.
        threads: each evaluates some of the categories. Their number does not change the metrics.

    Raises:
        ValueError: an image of the split has no entry, or has two.
    """
    _check_each_image_once(truth, detections)
    arrays = _as_arrays(detections, kind)
    shares = _shares(truth, arrays, threads)
    with ThreadPoolExecutor(threads) as pool:
        parts = pool.map(partial(_of_categories, truth, arrays), shares[:-1], shares[1:])
        values = {name: np.concatenate(of_parts, axis=1) for name, *of_parts in zip(_VALUES, *parts, strict=True)}
    return {name: percent(values[name] if name in values else values["AP"][iou_rows(name)]) for name in METRICS}


def _shares(truth: GroundTruth, detections: DetectionArrays, number: int) -> list[int]:
    """Where to cut the categories into at most so many parts of about as many detections."""
    position, known = positions(detections.category_ids, truth.category_ids)
    total = np.cumsum(np.bincount(position[known], minlength=len(truth.category_ids)))
    cuts = np.searchsorted(total, np.arange(1, number) / number * total[-1], side="right").tolist()
    return sorted({0, *cuts, len(total)})


def _of_categories(truth: GroundTruth, detections: DetectionArrays, start: int, stop: int) -> list[NDArray[np.float64]]:
    """Each of `_VALUES`, `[IoU thresholds, categories]`, of the categories from one position to another."""
    matches = match(truth.of_categories(start, stop), detections)
    precisions = [average_precision(matches, size=size)[..., 0] for size in SIZES]
    return precisions + [recall(matches, int(name[2:])) for name in _VALUES[len(SIZES) :]]


def iou_rows(metric: str) -> slice:
    """The IoU thresholds over which a metric such as `AP` or `AP50` is the mean."""
    if metric == "AP":
        return slice(None)
    # By index: the thresholds are a linspace, in which 0.9 is 0.8999999999999999.
    index = int(np.abs(IOU_THRESHOLDS - int(metric[2:]) / 100).argmin())
    return slice(index, index + 1)


def percent(precision: NDArray[np.float64]) -> float | None:
    """The mean of the values that are not NaN, in percent; None if there are none."""
    valid = precision[~np.isnan(precision)]
    return 100.0 * float(valid.mean()) if valid.size else None


def _check_each_image_once(truth: GroundTruth, detections: Sequence[Detections]) -> None:
    evaluated = sorted(entry.image_id for entry in detections)
    if evaluated != truth.image_ids.tolist():
        raise ValueError(
            f"evaluation needs each of the split's {len(truth.image_ids)} images once; it got {len(evaluated)} entries "
            f"for {len(set(evaluated))} images"
        )


def _as_arrays(detections: Sequence[Detections], kind: Literal["bbox", "segm"]) -> DetectionArrays:
    masks: list[Any] | None = None
    if kind == "segm":
        assert all(entry.masks is not None for entry in detections), "a model without masks has no mask AP"
        masks = [mask for entry in detections for mask in entry.masks or ()]
    return DetectionArrays(
        image_ids=np.repeat([entry.image_id for entry in detections], [len(entry.scores) for entry in detections]),
        category_ids=np.concatenate([entry.category_ids for entry in detections]).astype(np.int64),
        scores=np.concatenate([entry.scores for entry in detections]),
        boxes=np.concatenate([entry.boxes for entry in detections]).reshape(-1, 4),
        masks=masks,
    )
