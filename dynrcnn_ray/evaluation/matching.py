"""Which detection finds which object: COCO's matching, over a whole split at once.

The rules are those of pycocotools' `COCOeval.evaluateImg`, but for one slip: it marks a match by the annotation's id,
and so takes a match with the id 0 for none. There each image, category, object size and IoU threshold is a turn of a
loop; here they are axes of arrays, and the loop goes over the rank of a detection in its image.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_utils

from dynrcnn_ray.evaluation.ground_truth import GroundTruth, positions

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
SIZES = ("all", "small", "medium", "large")
"""Object sizes. The arrays' axis `sizes` follows this order."""
MAX_DETECTIONS = 100
"""Detections that count, per image and category."""
FALSE_POSITIVE, TRUE_POSITIVE, IGNORED = 0, 1, 2

# Smallest and largest area of each size in square pixels, both included.
_AREA_RANGES = np.array([[0, 1e5**2], [0, 32**2], [32**2, 96**2], [96**2, 1e5**2]])
_PAIRS_AT_ONCE = 1_000_000
_NONE = -1


class DetectionArrays(NamedTuple):
    """The detections of a whole split, one array a column.

    Attributes:
        image_ids: `[n]`, ids of the annotations' images.
        category_ids: `[n]`, ids of the annotations' categories. Detections of other categories do not count.
        scores: `[n]`.
        boxes: `[n, 4]`, xyxy pixels of the original image.
        masks: `[n]`, a compressed RLE each; None compares boxes.
    """

    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    scores: NDArray[np.floating]
    boxes: NDArray[np.floating]
    masks: Sequence[Any] | None = None


class Matches(NamedTuple):
    """What became of each detection.

    Attributes:
        outcome: int8 `[sizes, IoU thresholds, n]`: `FALSE_POSITIVE`, `TRUE_POSITIVE` or `IGNORED`. Detections are
            ordered by category, then by falling score.
        image: `[n]`, position of the detection's image among the split's ascending image ids.
        first: `[num_categories + 1]`; detections of category k are `first[k]` to `first[k + 1]`.
        to_find: bool `[sizes, num_objects]`: whether the object counts for recall.
        object_image: `[num_objects]`.
        object_category: `[num_objects]`, position among the ascending category ids.
        num_images: images of the split.
    """

    outcome: NDArray[np.int8]
    image: NDArray[np.int64]
    first: NDArray[np.int64]
    to_find: NDArray[np.bool_]
    object_image: NDArray[np.int64]
    object_category: NDArray[np.int64]
    num_images: int


class _Ranked(NamedTuple):
    """Detections that count, ordered by pair (as in `GroundTruth`), then by falling score."""

    pair: NDArray[np.int64]
    scores: NDArray[np.float64]
    boxes: NDArray[np.float64]
    """`[n, 4]`: x, y, width, height."""
    masks: list[Any] | None


class _Overlaps(NamedTuple):
    """Detections with objects of the same image and category, where the IoU reaches the lowest threshold.

    `[num_overlaps]` each, ordered by detection, then by falling IoU.
    """

    detection: NDArray[np.int64]
    object: NDArray[np.int64]
    iou: NDArray[np.float64]


def match(truth: GroundTruth, detections: DetectionArrays) -> Matches:
    """Match a split's detections to its objects, at every object size and IoU threshold.

    Args:
        truth: the objects.
        detections: in any order; of equal scores in one image the earlier counts as the better.

    Returns:
        The outcome of every detection that counts.
    """
    ranked = _rank(truth, detections)
    overlaps = _overlaps(truth, ranked)
    ignored_objects = truth.is_crowd | _outside(truth.areas)
    overlapping, found = _match_greedily(overlaps, ranked.pair, ignored_objects, truth.is_crowd)

    unmatched = np.where(_outside(_areas(ranked)), IGNORED, FALSE_POSITIVE).astype(np.int8)
    outcome = np.repeat(unmatched[:, None], len(IOU_THRESHOLDS), axis=1)
    if len(overlapping):
        is_ignored = (found != _NONE) & ignored_objects[np.arange(len(SIZES))[:, None, None], found]
        outcome[..., overlapping] = np.where(
            is_ignored, IGNORED, np.where(found != _NONE, TRUE_POSITIVE, outcome[..., overlapping])
        )

    num_images = len(truth.image_ids)
    by_score = np.argsort(-ranked.scores, kind="stable")
    by_category = by_score[np.argsort(ranked.pair[by_score] // num_images, kind="stable")]
    categories = np.arange(len(truth.category_ids) + 1)
    return Matches(
        outcome=outcome[..., by_category],
        image=ranked.pair[by_category] % num_images,
        first=np.searchsorted(ranked.pair, categories * num_images),
        to_find=~ignored_objects,
        object_image=truth.pair % num_images,
        object_category=truth.pair // num_images,
        num_images=num_images,
    )


def _rank(truth: GroundTruth, detections: DetectionArrays) -> _Ranked:
    """The best detections of each image and category."""
    image, known_image = positions(detections.image_ids, truth.image_ids)
    category, known_category = positions(detections.category_ids, truth.category_ids)
    pair = category * len(truth.image_ids) + image
    scores = detections.scores.astype(np.float64)
    by_score = np.argsort(-scores, kind="stable")
    by_score = by_score[(known_image & known_category)[by_score]]
    order = by_score[np.argsort(pair[by_score], kind="stable")]
    order = order[_rank_in_group(pair[order]) < MAX_DETECTIONS]
    boxes = detections.boxes.astype(np.float64)[order]
    boxes[:, 2:] -= boxes[:, :2]
    masks = None if detections.masks is None else [detections.masks[index] for index in order.tolist()]
    return _Ranked(pair[order], scores[order], boxes, masks)


def _overlaps(truth: GroundTruth, ranked: _Ranked) -> _Overlaps:
    parts = list(_box_overlaps(truth, ranked) if ranked.masks is None else _mask_overlaps(truth, ranked, ranked.masks))
    detection = np.concatenate([np.empty(0, dtype=np.int64), *(part.detection for part in parts)])
    this = np.concatenate([np.empty(0, dtype=np.int64), *(part.object for part in parts)])
    iou = np.concatenate([np.empty(0), *(part.iou for part in parts)])
    # Of equal IoUs pycocotools takes the later object.
    order = np.lexsort((-this, -iou, detection))
    return _Overlaps(detection[order], this[order], iou[order])


def _box_overlaps(truth: GroundTruth, ranked: _Ranked) -> Iterator[_Overlaps]:
    """The operations and their order are those of pycocotools' `bbIou`: the IoUs are equal to the last bit."""
    first = np.searchsorted(truth.pair, ranked.pair)
    counts = np.searchsorted(truth.pair, ranked.pair, side="right") - first
    total = np.cumsum(counts)
    # Bounded memory, however many objects an image has.
    cuts = np.searchsorted(total, np.arange(0, total[-1] if len(total) else 0, _PAIRS_AT_ONCE), side="right")
    for start, stop in itertools.pairwise([*cuts.tolist(), len(total)]):
        count = counts[start:stop]
        detection = np.repeat(np.arange(start, stop), count)
        this = np.repeat(first[start:stop], count) + _rank_in_group(detection)
        left, top, width, height = ranked.boxes[detection].T
        object_left, object_top, object_width, object_height = truth.boxes[this].T
        across = np.minimum(width + left, object_width + object_left) - np.maximum(left, object_left)
        down = np.minimum(height + top, object_height + object_top) - np.maximum(top, object_top)
        touching = ((across > 0) & (down > 0)).nonzero()[0]
        shared = across[touching] * down[touching]
        area = (width * height)[touching]
        object_area = (object_width * object_height)[touching]
        union = np.where(truth.is_crowd[this[touching]], area, area + object_area - shared)
        iou = shared / union
        near = iou >= IOU_THRESHOLDS[0]
        yield _Overlaps(detection[touching][near], this[touching][near], iou[near])


def _mask_overlaps(truth: GroundTruth, ranked: _Ranked, masks: list[Any]) -> Iterator[_Overlaps]:
    object_masks = truth.masks()
    pairs = np.intersect1d(truth.pair, ranked.pair)
    bounds = [np.searchsorted(of, pairs, side=side) for of in (ranked.pair, truth.pair) for side in ("left", "right")]
    for start, stop, first, last in np.stack(bounds, axis=1).tolist():
        crowd = truth.is_crowd[first:last].astype(int).tolist()
        iou: Any = mask_utils.iou(masks[start:stop], object_masks[first:last], crowd)
        detection, this = (iou >= IOU_THRESHOLDS[0]).nonzero()
        yield _Overlaps(start + detection, first + this, iou[detection, this])


def _match_greedily(
    overlaps: _Overlaps, pair: NDArray[np.int64], ignored_objects: NDArray[np.bool_], is_crowd: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give each detection, the best score of an image first, the object with the highest IoU that is still free.

    An object that counts goes before an ignored one; a crowd is always free.

    Args:
        overlaps: `[num_overlaps]` each.
        pair: `[n]`, image and category of each detection.
        ignored_objects: bool `[sizes, num_objects]`.
        is_crowd: bool `[num_objects]`.

    Returns:
        The `[m]` detections that overlap any object, and `[sizes, IoU thresholds, m]`: the object of each, or -1.
    """
    detections, first, counts = np.unique(overlaps.detection, return_index=True, return_counts=True)
    reaches = overlaps.iou[:, None] >= IOU_THRESHOLDS
    ignored = np.ascontiguousarray(ignored_objects.T)
    free = np.ones((len(is_crowd), len(SIZES), len(IOU_THRESHOLDS)), dtype=bool)
    found = np.full((len(detections), len(SIZES), len(IOU_THRESHOLDS)), _NONE, dtype=np.int64)

    # Detections of one rank are in different images or categories: they cannot compete.
    rank = _rank_in_group(pair[detections])
    by_rank = np.lexsort((-counts, rank))
    turns = np.split(by_rank, np.searchsorted(rank[by_rank], np.arange(1, rank.max(initial=0) + 1)))
    for turn in turns:
        fallback = np.full((len(turn), *found.shape[1:]), _NONE, dtype=np.int64)
        choice = fallback.copy()
        for candidate in range(counts[turn].max(initial=0)):
            # Those with the most candidates come first.
            left = int((counts[turn] > candidate).sum())
            overlap = first[turn[:left]] + candidate
            this = overlaps.object[overlap]
            eligible = reaches[overlap][:, None, :] & (free[this] | is_crowd[this][:, None, None])
            spare = ignored[this][:, :, None]
            for chosen, fits in ((choice[:left], eligible & ~spare), (fallback[:left], eligible & spare)):
                np.copyto(chosen, this[:, None, None], where=fits & (chosen == _NONE))
        found[turn] = np.where(choice == _NONE, fallback, choice)
        of, size, threshold = (found[turn] != _NONE).nonzero()
        free[found[turn[of], size, threshold], size, threshold] = False
    return detections, np.ascontiguousarray(found.transpose(1, 2, 0))


def _rank_in_group(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of each element among its equals: 0, 1, 2 ... Equal elements stand together."""
    starts = np.r_[True, group[1:] != group[:-1]] if len(group) else np.empty(0, dtype=bool)
    position = np.arange(len(group))
    return position - np.maximum.accumulate(np.where(starts, position, 0))


def _areas(ranked: _Ranked) -> NDArray[np.float64]:
    if ranked.masks is None:
        return ranked.boxes[:, 2] * ranked.boxes[:, 3]
    # One by one: pycocotools 2.0.11 refuses a list of more than 255 with numpy 2.
    return np.array([mask_utils.area(mask) for mask in ranked.masks], dtype=np.float64)


def _outside(areas: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether an area is not of the size: bool `[sizes, n]`."""
    return (areas < _AREA_RANGES[:, :1]) | (areas > _AREA_RANGES[:, 1:])
