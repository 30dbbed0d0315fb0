"""Which detection finds which object: COCO's matching, over a whole split at once.

The rules are those of pycocotools' `COCOeval.evaluateImg`, but for one slip: it marks a match by the annotation's id,
and so takes a match with the id 0 for none. There each image, category, object size and IoU threshold is a turn of a
loop; here images and categories are axes of arrays, sizes and thresholds are the bits of one integer, and the loop goes
over the rank of a detection in its image.
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
# All thresholds of the first size; and, times such a value, the same bits of every size.
_THRESHOLD_BITS = (1 << len(IOU_THRESHOLDS)) - 1
_EVERY_SIZE = sum(1 << len(IOU_THRESHOLDS) * size for size in range(len(SIZES)))


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
    """What became of each detection. A set of sizes and IoU thresholds is an int64: see `bit`.

    Attributes:
        image: `[n]`, position of the detection's image among the split's ascending image ids. Detections are ordered
            by category, then by falling score.
        first: `[num_categories + 1]`; detections of category k are `first[k]` to `first[k + 1]`.
        outside: bool `[sizes, n]`: whether the detection is not of the size: if it finds no object it does not count.
        near: `[m]`, ascending: the detections that reach the lowest IoU with an object. All others find none.
        near_rank: `[m]`, place of each by falling score in its image and category, from 0.
        found: `[m]`: at which sizes and thresholds each has found an object that counts.
        ignored: `[m]`: at which it does not count itself, neither as found nor as false.
        to_find: bool `[sizes, num_objects]`: whether the object counts for recall.
        object_image: `[num_objects]`. Objects are ordered by category.
        first_object: `[num_categories + 1]`, as `first`.
        num_images: images of the split.
    """

    image: NDArray[np.int64]
    first: NDArray[np.int64]
    outside: NDArray[np.bool_]
    near: NDArray[np.int64]
    near_rank: NDArray[np.int64]
    found: NDArray[np.int64]
    ignored: NDArray[np.int64]
    to_find: NDArray[np.bool_]
    object_image: NDArray[np.int64]
    first_object: NDArray[np.int64]
    num_images: int

    def outcome(self, size: int, category: int) -> NDArray[np.int8]:
        """What became of a category's detections at an object size, each by its index.

        Returns:
            `[IoU thresholds, n]`, by falling score: `FALSE_POSITIVE`, `TRUE_POSITIVE` or `IGNORED`.
        """
        start, stop = self.first[category : category + 2]
        outcome = np.where(self.outside[size, start:stop], IGNORED, FALSE_POSITIVE).astype(np.int8)
        outcome = np.repeat(outcome[None], len(IOU_THRESHOLDS), axis=0)
        some = slice(*np.searchsorted(self.near, (start, stop)))
        for threshold, of_threshold in enumerate(outcome):
            flag = 1 << bit(size, threshold)
            matched = np.where(self.ignored[some] & flag, IGNORED, FALSE_POSITIVE)
            of_threshold[self.near[some] - start] = np.where(self.found[some] & flag, TRUE_POSITIVE, matched)
        return outcome


class _Ranked(NamedTuple):
    """Detections that count, as `DetectionArrays`, with two orders."""

    detections: DetectionArrays
    by_category: NDArray[np.int64]
    """`[n]`: the detections by category, then by falling score, then by image."""
    category_pair: NDArray[np.int64]
    """`[n]`: the pair of each, as in `GroundTruth`."""
    by_pair: NDArray[np.int64]
    """`[n]`: places in `by_category`, by pair, then by falling score."""
    pair: NDArray[np.int64]
    """`[n]`: the pair of each."""
    rank: NDArray[np.int64]
    """`[n]`: the place of each in its pair, from 0."""


class _Overlaps(NamedTuple):
    """Detections with objects of the same image and category, where the IoU reaches the lowest threshold.

    `[num_overlaps]` each, ordered by detection, then by falling IoU.
    """

    detection: NDArray[np.int64]
    """A place in `by_pair`."""
    object: NDArray[np.int64]
    iou: NDArray[np.float64]


def bit(size: int, threshold: int) -> int:
    """Which bit of an int64 stands for an object size and an IoU threshold, each by its index."""
    return size * len(IOU_THRESHOLDS) + threshold


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
    near, found, ignored = _match_greedily(overlaps, ranked.pair, ignored_objects, truth.is_crowd)
    place = ranked.by_pair[near]
    outside = _outside(_areas(detections, ranked.by_category))
    ignored |= _every_threshold(outside[:, place]) & ~found

    num_images = len(truth.image_ids)
    categories = np.arange(len(truth.category_ids) + 1) * num_images
    order = np.lexsort(_digits(place))
    return Matches(
        image=ranked.category_pair % num_images,
        first=np.searchsorted(ranked.pair, categories),
        outside=outside,
        near=place[order],
        near_rank=ranked.rank[near[order]],
        found=found[order],
        ignored=ignored[order],
        to_find=~ignored_objects,
        object_image=truth.pair % num_images,
        first_object=np.searchsorted(truth.pair, categories),
        num_images=num_images,
    )


def _rank(truth: GroundTruth, detections: DetectionArrays) -> _Ranked:
    """The best detections of each image and category."""
    image, known_image = positions(detections.image_ids, truth.image_ids)
    category, known_category = positions(detections.category_ids, truth.category_ids)
    known = (known_image & known_category).nonzero()[0]
    image, category = image[known], category[known]
    order = np.lexsort([*_digits(image), *_falling_digits(detections.scores[known]), *_digits(category)])
    by_category = known[order]
    category_pair = (category * len(truth.image_ids) + image)[order]
    by_pair = np.lexsort(_digits(category_pair))
    rank = _rank_in_group(category_pair[by_pair])
    if (rank >= MAX_DETECTIONS).any():
        counts = np.zeros(len(rank), dtype=bool)
        counts[by_pair] = rank < MAX_DETECTIONS
        by_category, category_pair = by_category[counts], category_pair[counts]
        by_pair = (np.cumsum(counts) - 1)[by_pair[rank < MAX_DETECTIONS]]
        rank = rank[rank < MAX_DETECTIONS]
    return _Ranked(detections, by_category, category_pair, by_pair, category_pair[by_pair], rank)


def _overlaps(truth: GroundTruth, ranked: _Ranked) -> _Overlaps:
    box_or_mask_overlaps = _box_overlaps if ranked.detections.masks is None else _mask_overlaps
    parts = list(box_or_mask_overlaps(truth, ranked))
    detection = np.concatenate([np.empty(0, dtype=np.int64), *(part.detection for part in parts)])
    this = np.concatenate([np.empty(0, dtype=np.int64), *(part.object for part in parts)])
    iou = np.concatenate([np.empty(0), *(part.iou for part in parts)])
    # Of equal IoUs pycocotools takes the later object.
    order = np.lexsort([*_digits(len(truth.pair) - this), *_falling_digits(iou), *_digits(detection)])
    return _Overlaps(detection[order], this[order], iou[order])


def _box_overlaps(truth: GroundTruth, ranked: _Ranked) -> Iterator[_Overlaps]:
    """The operations and their order are those of pycocotools' `bbIou`: the IoUs are equal to the last bit."""
    boxes_at = ranked.by_category[ranked.by_pair]
    first = np.searchsorted(ranked.pair, truth.pair)
    counts = np.searchsorted(ranked.pair, truth.pair, side="right") - first
    total = np.cumsum(counts)
    # Bounded memory, however many objects an image has.
    cuts = np.searchsorted(total, np.arange(0, total[-1] if len(total) else 0, _PAIRS_AT_ONCE), side="right")
    for start, stop in itertools.pairwise([*cuts.tolist(), len(total)]):
        count = counts[start:stop]
        this = np.repeat(np.arange(start, stop), count)
        detection = np.repeat(first[start:stop], count) + _rank_in_group(this)
        boxes = ranked.detections.boxes[boxes_at[detection]].astype(np.float64).T
        left, top, width, height = boxes[0], boxes[1], boxes[2] - boxes[0], boxes[3] - boxes[1]
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


def _mask_overlaps(truth: GroundTruth, ranked: _Ranked) -> Iterator[_Overlaps]:
    assert ranked.detections.masks is not None
    masks = [ranked.detections.masks[index] for index in ranked.by_category[ranked.by_pair].tolist()]
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
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Give each detection, the best score of an image first, the object with the highest IoU that is still free.

    An object that counts goes before an ignored one; a crowd is always free.

    Args:
        overlaps: `[num_overlaps]` each.
        pair: `[n]`, image and category of each detection.
        ignored_objects: bool `[sizes, num_objects]`.
        is_crowd: bool `[num_objects]`.

    Returns:
        `[m]` each: the detections that overlap any object, at which sizes and thresholds they have found an object
        that counts, and at which an ignored one.
    """
    first = (np.diff(overlaps.detection, prepend=-1) > 0).nonzero()[0]
    detections = overlaps.detection[first]
    num_candidates = np.diff(first, append=len(overlaps.detection))
    reaches = ((1 << np.searchsorted(IOU_THRESHOLDS, overlaps.iou, side="right")) - 1) * _EVERY_SIZE
    ignored_at = _every_threshold(ignored_objects)
    crowd_at = np.where(is_crowd, _THRESHOLD_BITS * _EVERY_SIZE, 0)
    free = np.full(len(is_crowd), _THRESHOLD_BITS * _EVERY_SIZE)
    found, ignored = np.zeros((2, len(detections)), dtype=np.int64)

    # Detections of one rank are in different images or categories: they cannot compete.
    rank = _rank_in_group(pair[detections])
    by_rank = np.lexsort((-num_candidates, rank))
    for turn in np.split(by_rank, np.searchsorted(rank[by_rank], np.arange(1, rank.max(initial=0) + 1))):
        # Those with the most candidates come first.
        left = [
            int((num_candidates[turn] > candidate).sum()) for candidate in range(num_candidates[turn].max(initial=0))
        ]
        taken = np.zeros(len(turn), dtype=np.int64)
        for result, eligible_at in ((found, ~ignored_at), (ignored, ignored_at)):
            before = taken.copy()
            for candidate, count in enumerate(left):
                overlap = first[turn[:count]] + candidate
                this = overlaps.object[overlap]
                takes = reaches[overlap] & (free[this] | crowd_at[this]) & eligible_at[this] & ~taken[:count]
                taken[:count] |= takes
                free[this] &= ~takes
            result[turn] = taken & ~before
    return detections, found, ignored


def _rank_in_group(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of each element among its equals: 0, 1, 2 ... Equal elements stand together."""
    first = np.r_[0, (group[1:] != group[:-1]).nonzero()[0] + 1][: len(group)]
    return np.arange(len(group)) - np.repeat(first, np.diff(first, append=len(group)))


def _digits(values: NDArray[np.integer]) -> list[NDArray[np.integer]]:
    """Keys for `np.lexsort` in the order of values from 0: numpy sorts 16 bits by radix, many times faster."""
    kind = np.min_scalar_type(int(values.max(initial=0)))
    digits = values.astype(kind)[:, None]
    return list((digits if kind.itemsize <= 2 else digits.view(np.uint16)).T)


def _falling_digits(values: NDArray[np.floating]) -> list[NDArray[np.integer]]:
    """The same of any numbers, the highest first."""
    # The bits of a float without its sign rise with it. The subtraction makes both zeros one.
    bits = (0 - values).view(f"i{values.dtype.itemsize}")
    rising = np.where(bits < 0, ~bits, bits ^ np.iinfo(bits.dtype).min)
    return list(rising[:, None].view(np.uint16).T)


def _every_threshold(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The bits of all thresholds of the sizes whose flag is set: `[k]` from `[sizes, k]`."""
    bits = [_THRESHOLD_BITS << bit(size, 0) for size in range(len(SIZES))]
    return np.array(bits) @ flags


def _areas(detections: DetectionArrays, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    if detections.masks is None:
        left, top, right, bottom = detections.boxes[rows].astype(np.float64).T
        return (right - left) * (bottom - top)
    # One by one: pycocotools 2.0.11 refuses a list of more than 255 with numpy 2.
    return np.array([mask_utils.area(detections.masks[row]) for row in rows.tolist()], dtype=np.float64)


def _outside(areas: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether an area is not of the size: bool `[sizes, n]`."""
    return (areas < _AREA_RANGES[:, :1]) | (areas > _AREA_RANGES[:, 1:])
