"""What is wrong with boxes and areas; boxes that stick out of their image by a few pixels are clipped."""

import contextlib
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynrcnn_ray.data.check.faults import CORRECT_OR_DROP, Fault, Records
from dynrcnn_ray.data.check.fields import found
from dynrcnn_ray.data.check.values import as_box, as_number, is_missing

_LARGEST_NUMBER = 1e9
_ROUNDING = 1.0
"""Pixels by which a box may stick out of its image. COCO's own do, by rounding; their numbers stay as they are."""
_FEW_PIXELS = 5.0
_FLOAT32_STEPS = 8 * 2.0**-23
"""The least width of a box, as a share of its image's: float32 keeps it through clipping, mirroring and resizing."""
_MOST = 0.95
_NO_AREA = object()


class ImageSizes:
    """Width and height of each annotation's image."""

    def __init__(self, images: Records) -> None:
        """Take them from images that have been checked."""
        self._rows = {image_id: row for row, image_id in enumerate(images.column("id"))}
        sizes = list(zip(images.column("width"), images.column("height"), strict=True))
        self._sizes = np.array(sizes, dtype=np.int64).reshape(-1, 2)

    def keep_known(self, annotations: Records) -> None:
        """Take out the annotations of images that are not there, without a word: the image speaks for itself."""
        annotations.keep(found(annotations.column("image_id"), self._rows.keys()))

    def of(self, annotations: Records) -> NDArray[np.int64]:
        """`[n, 2]` for the annotations that are left."""
        return self._sizes[np.array([self._rows[number] for number in annotations.column("image_id")], dtype=np.int64)]


def note_repeated_objects(annotations: Records, *, evaluated: bool) -> None:
    """Note the objects whose image, category and box an earlier one has. Boxes and crowds must be checked."""
    places = [np.unique(annotations.column(key), return_inverse=True)[1] for key in ("image_id", "category_id")]
    rows = np.column_stack([*places, _xywh(annotations)])
    order = np.lexsort(rows.T)
    again = np.zeros(len(rows), dtype=bool)
    again[order[1:]] = (rows[order[1:]] == rows[order[:-1]]).all(axis=1)
    again &= ~np.array(annotations.column("iscrowd", 0), dtype=bool)
    consequence = "counted as one object more, which a second detection must find" if evaluated else "trained on twice"
    remedy = f"{consequence}; leave one of them out"
    annotations.note(again, "image, category and box of another annotation", remedy, "image_id")


def check_boxes(annotations: Records, sizes: ImageSizes, *, evaluated: bool) -> None:
    """Check `bbox`, and `area` where it counts, in evaluation.

    A box without extent counts by what the split is for. COCO's own train2017 has two of them, and training leaves them
    out, so there they are a note. In evaluation no detection can match one and each lowers the average precision, so
    there they are an error.
    """
    fine = _are_boxes(annotations.column("bbox"))
    annotations.convert_at((~fine).nonzero()[0].tolist(), "bbox", as_box)
    annotations.refuse(
        ~_are_boxes(annotations.column("bbox")), "bbox is not four finite numbers", CORRECT_OR_DROP, "bbox"
    )
    if problem := _other_format(_xywh(annotations), sizes.of(annotations)):
        # Whatever else could be said of single boxes follows from it.
        remedy = "give x, y, width and height in pixels"
        annotations.faults.append(Fault(annotations.file, "file", problem, remedy))
        annotations.keep(np.zeros(len(annotations.left), dtype=bool))
        return
    annotations.convert("area", {int, float}, as_number, default=_NO_AREA)
    negative = np.minimum(*_xywh(annotations)[:, 2:].T) < 0
    annotations.refuse(negative, "bbox of negative width or height", "give x, y, width, height", "bbox")
    _clip(annotations, sizes)
    flat = ~has_extent(clipped_xyxy(_xywh(annotations), sizes.of(annotations)), sizes.of(annotations))
    harmless = flat & (not evaluated or np.array(annotations.column("iscrowd", 0), dtype=bool))
    annotations.note(harmless, "bbox of (nearly) zero width or height", "left out of training", "bbox")
    problem = "bbox of (nearly) zero width or height, which no detection can match"
    annotations.refuse(flat & ~harmless, problem, CORRECT_OR_DROP, "bbox")
    if evaluated:
        _check_areas(annotations, sizes)


def clipped_xyxy(xywh: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float32]:
    """The part of each box that is inside its image.

    Args:
        xywh: COCO boxes in pixels, `[n, 4]`.
        sizes: width and height of each box's image, `[n, 2]`.

    Returns:
        Boxes `[n, 4]`, xyxy pixels.
    """
    return _inside(xywh, sizes).astype(np.float32)


def has_extent(xyxy: NDArray[np.float32], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which boxes keep a width and a height in float32, also when their image is mirrored and resized: `[n]`."""
    return np.all(xyxy[:, 2:] - xyxy[:, :2] > _FLOAT32_STEPS * sizes, axis=1)


def _clip(annotations: Records, sizes: ImageSizes) -> None:
    """Clip boxes that stick out of their image, and refuse those that are mostly outside."""
    xywh, image_sizes = _xywh(annotations), sizes.of(annotations)
    out = _overhang(xywh, image_sizes)
    inside = _inside(xywh, image_sizes)
    share = (inside[:, 2:] - inside[:, :2]).prod(axis=1) / np.maximum(xywh[:, 2:].prod(axis=1), np.finfo(float).tiny)
    outside = (out > _ROUNDING) & ((inside[:, 2:] <= inside[:, :2]).any(axis=1) | ((out > _FEW_PIXELS) & (share < 0.5)))
    problem = "bbox outside its image, or more than half of it"
    annotations.refuse(outside, problem, CORRECT_OR_DROP, "bbox")
    clipped = (out > _ROUNDING)[~outside]
    annotations.note(clipped, "bbox that sticks out of its image", "clipped to the image", "bbox")
    corners = inside[~outside]
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    rows = clipped.nonzero()[0].tolist()
    areas = {
        row: min(area, boxes[row, 2:].prod().item())
        for row in rows
        if type(area := annotations.left[row].get("area")) in (int, float)
    }
    annotations.change("bbox", {row: boxes[row].tolist() for row in rows})
    annotations.change("area", areas)


def _overhang(xywh: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Pixels by which each box sticks out of its image, at most on any side: `[n]`."""
    return np.maximum(-xywh[:, :2], xywh[:, :2] + xywh[:, 2:] - sizes).max(axis=1, initial=-np.inf)


def _inside(xywh: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    corners = np.stack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    return np.clip(corners, 0, sizes[:, None, :]).reshape(-1, 4)


def _other_format(boxes: NDArray[np.float64], sizes: NDArray[np.int64]) -> str:
    """What the boxes of a split seem to be instead of x, y, width and height; nothing if they seem to be that."""
    if not len(boxes):
        return ""
    small = ((boxes >= 0) & (boxes <= 1)).all(axis=1) & (sizes > 1).all(axis=1)
    if small.mean() > 0.5:
        return f"{small.sum()} of {len(boxes)} boxes lie within 0 and 1, as shares of the image's width and height"
    out = _overhang(boxes, sizes)
    one, other = boxes[:, :2], boxes[:, 2:]
    formats = {
        "corners, x1, y1, x2, y2": np.concatenate([one, other - one], axis=1),
        "corners, y1, x1, y2, x2": np.concatenate([one, other - one], axis=1)[:, [1, 0, 3, 2]],
        "a centre with width and height": np.concatenate([one - other / 2, other], axis=1),
    }
    for name, xywh in formats.items():
        fits = (_overhang(xywh, sizes) <= _ROUNDING) & (xywh[:, 2:] >= 0).all(axis=1)
        only = fits & (out > _ROUNDING)
        far = fits & (out > np.maximum(_FEW_PIXELS, 0.05 * sizes.max(axis=1)))
        if only.mean() > 0.5 or (fits.mean() >= _MOST and far.mean() >= 1 - _MOST and far.sum() > 1):
            return f"{only.sum()} of {len(boxes)} boxes fit into their images only as {name}"
    return ""


def _check_areas(annotations: Records, sizes: ImageSizes) -> None:
    areas = annotations.column("area", _NO_AREA)
    missing = np.array([area is _NO_AREA or is_missing(area) for area in areas], dtype=bool)
    annotations.note(missing, "has no 'area', by which AP_S, AP_M and AP_L sort objects", "that of its box is taken")
    zero = np.array([type(area) in (int, float) and area == 0 for area in areas], dtype=bool)
    annotations.note(zero, "'area' of 0, by which AP_S, AP_M and AP_L sort objects", "counted as small")
    of_boxes = _xywh(annotations)[:, 2:].prod(axis=1).tolist()
    annotations.change("area", {at: of_boxes[at] for at, area in enumerate(areas) if is_missing(area)})
    largest = (sizes.of(annotations) + _ROUNDING).prod(1).tolist()
    fine = [
        area is _NO_AREA or (type(area) in (int, float) and 0 <= area <= most)
        for area, most in zip(annotations.column("area", _NO_AREA), largest, strict=True)
    ]
    annotations.refuse(~np.array(fine, dtype=bool), "area is not from 0 to that of the image", CORRECT_OR_DROP, "area")


def _xywh(annotations: Records) -> NDArray[np.float64]:
    return np.array(annotations.column("bbox"), dtype=np.float64).reshape(-1, 4)


def _are_boxes(values: Sequence[Any]) -> NDArray[np.bool_]:
    if set(map(type, values)) == {list} and set(map(len, values)) == {4}:
        flat = list(itertools.chain.from_iterable(values))
        if set(map(type, flat)) <= {int, float}:
            with contextlib.suppress(OverflowError):
                return np.max(np.abs(np.array(flat, dtype=np.float64).reshape(-1, 4)), axis=1) < _LARGEST_NUMBER
    return np.array([_is_box(value) for value in values], dtype=bool)


def _is_box(value: Any) -> bool:
    return type(value) is list and len(value) == 4 and all(_is_number(side) for side in value)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -_LARGEST_NUMBER < value < _LARGEST_NUMBER
