"""From matches to average precision and recall, with a weight for each image: pycocotools' `COCOeval.accumulate`."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dynrcnn_ray.evaluation.matching import IOU_THRESHOLDS, SIZES, Matches, bit

RECALLS = np.linspace(0.0, 1.0, 101)
"""Recalls at which precision is read off."""
# Detections times samples that are looked at together.
_NUMBERS_AT_ONCE = 500_000


def average_precision(
    matches: Matches, *, size: str = "all", weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Average precision of each category at each IoU threshold: precision's mean over 101 recalls.

    A whole weight counts an image that many times, as if the split held copies of it next to each other. (Equal scores
    of one category within one image are taken in the order of the first copy.)

    Args:
        matches: what became of each detection.
        size: object size, one of `SIZES`.
        weights: `[num_samples, num_images]`, from 0: each image's weight, in several samples at once. None: one
            sample in which each image counts once.

    Returns:
        `[IoU thresholds, num_categories, num_samples]`, 0 to 1; NaN where a sample has no object of the category.
    """
    if weights is None:
        weights = np.ones((1, matches.num_images))
    num_objects = _num_objects(matches, size, weights)
    parts = [
        _mean_precisions(matches, SIZES.index(size), weights, num_objects, *categories)
        for categories in _ranges(matches.first, _NUMBERS_AT_ONCE // len(weights))
    ]
    result = np.concatenate([np.empty((len(IOU_THRESHOLDS), len(weights), 0)), *parts], axis=2)
    return np.where(num_objects > 0, result, np.nan).transpose(0, 2, 1)


def recall(matches: Matches, max_detections: int) -> NDArray[np.float64]:
    """The share of each category's objects that are found at each IoU threshold.

    Args:
        matches: what became of each detection.
        max_detections: how many detections of an image and category count, up to `MAX_DETECTIONS`.

    Returns:
        `[IoU thresholds, num_categories]`, 0 to 1; NaN for a category without objects.
    """
    found = matches.found[matches.near_rank < max_detections]
    category = np.searchsorted(matches.first, matches.near[matches.near_rank < max_detections], side="right") - 1
    num_objects = _num_objects(matches, "all", np.ones((1, matches.num_images)))[0]
    num_found = [
        np.bincount(category[_flags(found, 0, threshold)], minlength=len(num_objects))
        for threshold in range(len(IOU_THRESHOLDS))
    ]
    with np.errstate(invalid="ignore"):
        return np.array(num_found) / num_objects


def _num_objects(matches: Matches, size: str, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """`[num_samples, num_categories]`: the objects to find, weighted."""
    of_each = weights[:, matches.object_image] * matches.to_find[SIZES.index(size)]
    return np.diff(_total_before(of_each)[:, matches.first_object])


def _ranges(first: NDArray[np.int64], num_detections: int) -> Iterator[tuple[int, int]]:
    """Ranges of categories with about so many detections, or a single one with more."""
    start = 0
    while start < len(first) - 1:
        stop = max(start + 1, int(np.searchsorted(first, first[start] + num_detections, side="right")) - 1)
        yield start, stop
        start = stop


def _mean_precisions(
    matches: Matches, size: int, weights: NDArray[np.float64], num_objects: NDArray[np.float64], start: int, stop: int
) -> NDArray[np.float64]:
    """Mean over the recalls of the highest precision at that recall or above.

    Precision is highest, and recall rises, at true positives alone; the others need no look.

    Args:
        matches: what became of each detection.
        size: index of the object size.
        weights: `[num_samples, num_images]`.
        num_objects: `[num_samples, num_categories]`, weighted.
        start: the first category.
        stop: the one after the last.

    Returns:
        `[IoU thresholds, num_samples, stop - start]`.
    """
    first = matches.first[start : stop + 1]
    rows = slice(first[0], first[-1])
    first_near = np.searchsorted(matches.near, first)
    some = slice(first_near[0], first_near[-1])
    near = matches.near[some] - first[0]
    every_category = np.arange(stop - start)
    category = np.repeat(every_category, np.diff(first_near))
    objects = np.where(num_objects > 0, num_objects, 1)[:, start:stop]

    of_each = weights[:, matches.image[rows]]
    near_weights = of_each[:, near]
    may_count = ~matches.outside[size, rows]
    may_count[near] = True
    passed = _total_before(of_each * may_count)
    passed = passed[:, near + 1] - passed[:, first[:-1] - first[0]][:, category]

    result = np.zeros((len(IOU_THRESHOLDS), len(weights), stop - start))
    for threshold in range(len(IOU_THRESHOLDS)):
        hits = _flags(matches.found[some], size, threshold).nonzero()[0]
        if not len(hits):
            continue
        of_hit = category[hits]
        ignored = _flags(matches.ignored[some], size, threshold).nonzero()[0]
        passing = _total_before(near_weights[:, ignored])
        first_ignored, first_hit = (np.searchsorted(of, every_category)[of_hit] for of in (category[ignored], of_hit))
        counted = passed[:, hits] - (passing[:, np.searchsorted(ignored, hits)] - passing[:, first_ignored])
        finding = _total_before(near_weights[:, hits])
        found = finding[:, 1:] - finding[:, first_hit]
        precision = found / (counted + np.spacing(1))
        # A recall belongs to the first hit that reaches it. Hits in front of it reach fewer, and none is none.
        reached = np.searchsorted(RECALLS, (found / objects[:, of_hit]).ravel(), side="right") - 1
        group = (np.arange(len(weights))[:, None] * (stop - start) + of_hit).ravel()
        place = group * len(RECALLS) + reached
        starts = np.diff(place, prepend=-1).nonzero()[0]
        best = np.zeros((len(weights), stop - start, len(RECALLS)))
        best.reshape(-1)[place[starts]] = np.maximum.reduceat(precision.ravel(), starts)
        result[threshold] = np.maximum.accumulate(best[..., ::-1], axis=-1).mean(axis=-1)
    return result


def _flags(bits: NDArray[np.int64], size: int, threshold: int) -> NDArray[np.bool_]:
    return bits & (1 << bit(size, threshold)) != 0


def _total_before(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`[k, n + 1]` from `[k, n]`: the sum of all values in front of each, and of all."""
    total = np.zeros((len(values), values.shape[1] + 1))
    np.cumsum(values, axis=1, out=total[:, 1:])
    return total
