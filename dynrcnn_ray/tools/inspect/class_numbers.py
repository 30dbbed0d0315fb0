"""What a detector is worth on each class: average precision, average recall, precision over recall."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynrcnn_ray.evaluation.average_precision import RECALLS, average_precision
from dynrcnn_ray.evaluation.coco_ap import iou_rows, percent
from dynrcnn_ray.evaluation.matching import IGNORED, SIZES, TRUE_POSITIVE, Matches

_ALL_SIZES = SIZES.index("all")


class ClassNumbers(NamedTuple):
    """One class of a split. In percent; None where it has no objects.

    Attributes:
        objects: how many there are to find, crowds not among them.
        detections: how many detections count.
        ap: average precision over IoU .5 to .95.
        ap50: the same at IoU .5.
        ap75: the same at IoU .75.
        ar: average recall over IoU .5 to .95, with at most 100 detections an image.
        precision: highest precision at each of 101 recalls from 0 to 1 or above, at IoU .5.
    """

    objects: int
    detections: int
    ap: float | None
    ap50: float | None
    ap75: float | None
    ar: float | None
    precision: NDArray[np.float64] | None


def class_numbers(matches: Matches) -> list[ClassNumbers]:
    """The numbers of each category, in the order of ascending category ids."""
    precision = average_precision(matches)
    to_find_before = np.r_[0, np.cumsum(matches.to_find[_ALL_SIZES])]
    objects = np.diff(to_find_before[matches.first_object])
    return [
        ClassNumbers(
            objects=int(count),
            detections=int((outcome != IGNORED)[0].sum()),
            ap=percent(precision[:, category]),
            ap50=percent(precision[iou_rows("AP50"), category]),
            ap75=percent(precision[iou_rows("AP75"), category]),
            ar=_average_recall(outcome, count),
            precision=_precision_curve(outcome[iou_rows("AP50")][0], count),
        )
        for category, count in enumerate(objects.tolist())
        for outcome in [matches.outcome(_ALL_SIZES, category)]
    ]


def _average_recall(outcome: NDArray[np.int8], objects: int) -> float | None:
    return 100 * float((outcome == TRUE_POSITIVE).sum(axis=1).mean()) / objects if objects else None


def _precision_curve(outcome: NDArray[np.int8], objects: int) -> NDArray[np.float64] | None:
    """In percent, at each of `RECALLS`; zero beyond the highest recall that is reached."""
    if not objects:
        return None
    found = np.cumsum(outcome == TRUE_POSITIVE)
    counted = np.cumsum(outcome != IGNORED)
    precision = found / np.maximum(counted, 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    reached = np.searchsorted(found / objects, RECALLS, side="left")
    return 100 * np.append(best, 0.0)[np.minimum(reached, len(best))]
