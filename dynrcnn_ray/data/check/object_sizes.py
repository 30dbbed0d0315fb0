"""How large a split's objects are where they enter the network, and the sizes and anchors that would fit them."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.check.check_split import Objects

SMALLEST_SEEN = 8
"""Pixels a side: two cells of the pyramid's finest level, whose stride is 4."""
_FEW = 0.1
"""So large a share of the objects may be smaller."""
_HALF = 0.5
_MULTIPLE = 32
"""Sides are multiples of it, as images are padded to one."""
_LARGEST = 800
"""The short side that torchvision's and the paper's detectors were trained at; no larger one is proposed."""


class Sizes(NamedTuple):
    """Sizes at which images enter the network, and the anchors that go with them."""

    short_side: int
    long_side: int
    anchors: tuple[int, ...]


def sides(objects: Objects, short_side: int, long_side: int) -> NDArray[np.float64]:
    """The square root of each object's area in the resized image, `[n]`, pixels."""
    extents = (objects.boxes[:, 2:] - objects.boxes[:, :2]).astype(np.float64)
    shortest, longest = objects.image_sizes.min(axis=1), objects.image_sizes.max(axis=1)
    scale = np.minimum(short_side / shortest, long_side / longest)
    return np.sqrt(extents.prod(axis=1)) * scale[objects.image_of]


def sizes_of(config: TrialConfig) -> Sizes:
    """Those of a configuration."""
    return Sizes(config.data.short_side, config.data.long_side, config.model.anchor_sizes)


def fitting_sizes(objects: Objects, config: TrialConfig) -> Sizes:
    """Sizes at which nine of ten objects are large enough, or the nearest that can be, and anchors that match them.

    A trained detector gets images in which objects are as large as its smallest anchor, and keeps its anchors unless
    half of the objects stay smaller: it knows them. Another one gets images in which objects can be seen, none larger
    than they are on the disk, and anchors that are small enough.
    """
    short_side, long_side, anchors = sizes_of(config)
    is_trained = bool(config.model.detector_weights)
    wanted = anchors[0] if is_trained else SMALLEST_SEEN
    found = sides(objects, short_side, long_side)
    smallest = np.quantile(found, _FEW)
    if smallest < wanted:
        own = float(np.median(objects.image_sizes.min(axis=1)))
        largest = _LARGEST if is_trained else min(own, _LARGEST)
        # What the long side lets through counts, where it is what limits.
        factor = min(wanted / smallest, max(1.0, largest / _short_side_reached(objects, config.data)))
        short_side, long_side = (_next_multiple(side * factor) for side in (short_side, long_side))
        found = sides(objects, short_side, long_side)
    if is_trained and (found < anchors[0]).mean() <= _HALF:
        return Sizes(short_side, long_side, anchors)
    halved = [anchors[0] // 2**times for times in range(anchors[0].bit_length())]
    # The largest of those that match best.
    first = min((size for size in halved if size >= SMALLEST_SEEN), key=lambda size: _unmatched(found, size), default=0)
    if first not in (0, anchors[0]):
        anchors = tuple(first * 2**level for level in range(len(anchors)))
    return Sizes(short_side, long_side, anchors)


def _unmatched(found: NDArray[np.float64], smallest_anchor: int) -> float:
    """How many octaves objects lie outside of five anchors' sizes on average; twice the largest's area is inside."""
    within = np.clip(found, smallest_anchor, math.sqrt(2) * 16 * smallest_anchor)
    return float(np.abs(np.log2(within / found)).mean())


def size_lines(objects: Objects, config: TrialConfig) -> tuple[list[str], dict[str, list[str]]]:
    """What of the objects will be seen, in lines; and the flags of the sizes that would fit, where others would."""
    now = sizes_of(config)
    lines = [f"  objects as the network gets them: {_described(objects, now)}\n"]
    fitting = fitting_sizes(objects, config)
    if fitting == now or not _are_many_small(objects, now):
        return lines, {}
    flags = _flags(now, fitting)
    shown = " ".join(" ".join([flag, *values]) for flag, values in flags.items())
    pixels = _pixels(objects, fitting) / _pixels(objects, now)
    cost = f"; images then have {pixels:.1f} times the pixels, and steps take longer accordingly" if pixels > 1 else ""
    lines.append(f"  sizes that would fit: {shown}\n    with them: {_described(objects, fitting)}{cost}\n")
    if np.quantile(sides(objects, fitting.short_side, fitting.long_side), _FEW) < SMALLEST_SEEN:
        lines.append(
            "    that is as far as larger images help: cut the photographs into parts to see the smallest objects\n"
        )
    return lines, flags


def _are_many_small(objects: Objects, sizes: Sizes) -> bool:
    return bool((sides(objects, sizes.short_side, sizes.long_side) < sizes.anchors[0]).mean() > _FEW)


def _described(objects: Objects, sizes: Sizes) -> str:
    found = sides(objects, sizes.short_side, sizes.long_side)
    return (
        f"median {np.median(found):.0f} pixels a side, {_share(found < sizes.anchors[0])} below the smallest anchor "
        f"({sizes.anchors[0]}), {_share(found < SMALLEST_SEEN)} below {SMALLEST_SEEN} pixels"
    )


def shown_share(share: float) -> str:
    """A share in percent, in which nearly all are not all, and a few are not none."""
    return f"{min(max(share, 0.01), 0.99) if 0 < share < 1 else share:.0%}"


def _share(which: NDArray[np.bool_]) -> str:
    return shown_share(float(which.mean()))


def _flags(now: Sizes, fitting: Sizes) -> dict[str, list[str]]:
    flags = {}
    if fitting[:2] != now[:2]:
        flags["--data.short-side"] = [str(fitting.short_side)]
        flags["--data.long-side"] = [str(fitting.long_side)]
    if fitting.anchors != now.anchors:
        flags["--model.anchor-sizes"] = [str(size) for size in fitting.anchors]
    return flags


def _pixels(objects: Objects, sizes: Sizes) -> float:
    """Of the median image."""
    shortest, longest = objects.image_sizes.min(axis=1), objects.image_sizes.max(axis=1)
    scale = np.minimum(sizes.short_side / shortest, sizes.long_side / longest)
    return float(np.median(objects.image_sizes.prod(axis=1) * scale**2))


def _short_side_reached(objects: Objects, data: DataConfig) -> float:
    """Of the median image, which the limit of the long side may keep smaller."""
    shortest, longest = objects.image_sizes.min(axis=1), objects.image_sizes.max(axis=1)
    return float(np.median(shortest * np.minimum(data.short_side / shortest, data.long_side / longest)))


def _next_multiple(side: float) -> int:
    return _MULTIPLE * math.ceil(side / _MULTIPLE - 1e-9)
