"""From matches to average precision, with a weight for each image: pycocotools' `COCOeval.accumulate`."""

import numpy as np
from numpy.typing import NDArray

from dynrcnn_ray.evaluation.matching import IGNORED, IOU_THRESHOLDS, SIZES, TRUE_POSITIVE, Matches

RECALLS = np.linspace(0.0, 1.0, 101)
"""Recalls at which precision is read off."""


def average_precision(
    matches: Matches, *, size: str = "all", weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Average precision of each category at each IoU threshold: precision's mean over 101 recalls.

    A whole weight counts an image that many times, as if the split held copies of it next to each other. (Equal scores
    of one category within one image are taken in the order of the first copy.)

    Args:
        matches: what became of each detection.
        size: object size, one of `SIZES`.
        weights: `[num_images, num_samples]`, from 0: each image's weight, in several samples at once. None: one
            sample in which each image counts once.

    Returns:
        `[IoU thresholds, num_categories, num_samples]`, 0 to 1; NaN where a sample has no object of the category.
    """
    if weights is None:
        weights = np.ones((matches.num_images, 1))
    outcome = matches.outcome[SIZES.index(size)]
    to_find = matches.to_find[SIZES.index(size)]
    num_categories = len(matches.first) - 1
    result = np.full((len(IOU_THRESHOLDS), num_categories, weights.shape[1]), np.nan)
    for category in range(num_categories):
        images = matches.object_image[to_find & (matches.object_category == category)]
        num_objects = weights[images].sum(axis=0)
        rows = slice(matches.first[category], matches.first[category + 1])
        detection_weights = weights[matches.image[rows]]
        passed = np.cumsum(detection_weights, axis=0)
        for threshold in range(len(IOU_THRESHOLDS)):
            precision = _mean_precision(outcome[threshold, rows], detection_weights, passed, num_objects)
            result[threshold, category] = np.where(num_objects > 0, precision, np.nan)
    return result


def _mean_precision(
    outcome: NDArray[np.int8],
    weights: NDArray[np.float64],
    passed: NDArray[np.float64],
    num_objects: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Mean over the recalls of the highest precision at that recall or above, of one category and threshold.

    Precision is highest, and recall rises, at true positives alone; the others need no look.

    Args:
        outcome: `[n]`, by falling score.
        weights: `[n, num_samples]`.
        passed: `[n, num_samples]`, their cumulative sum.
        num_objects: `[num_samples]`, weighted.

    Returns:
        `[num_samples]`.
    """
    hits = (outcome == TRUE_POSITIVE).nonzero()[0]
    if not len(hits):
        return np.zeros(weights.shape[1])
    counted = passed[hits]
    ignored = (outcome == IGNORED).nonzero()[0]
    if len(ignored):
        passed_ignored = np.cumsum(np.vstack([np.zeros_like(weights[:1]), weights[ignored]]), axis=0)
        counted -= passed_ignored[np.searchsorted(ignored, hits)]
    found = np.cumsum(weights[hits], axis=0)
    precision = found / (counted + np.spacing(1))
    best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    recall = found / np.where(num_objects > 0, num_objects, 1)
    # A recall belongs to the first hit that reaches it.
    reached = np.searchsorted(RECALLS, recall.ravel(), side="right").reshape(recall.shape)
    newly = np.diff(reached, axis=0, prepend=0)
    return (best * newly).sum(axis=0) / len(RECALLS)
