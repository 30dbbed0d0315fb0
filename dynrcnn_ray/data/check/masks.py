"""Whether masks can be drawn, decided before pycocotools sees them; it matters for models with masks alone.

pycocotools is C: garbage makes it allocate gigabytes, draw something else, or take the process down.
"""

import contextlib
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynrcnn_ray.data.check.faults import CORRECT_OR_DROP, Records, shown
from dynrcnn_ray.data.check.values import is_missing

_CHUNK = 20_000
# A compressed run length has 5 bits a character, offset by 48; 32 bits and a sign fit in 7.
_FIRST_CHARACTER, _CONTINUES, _SIGN, _MOST_CHARACTERS = 48, 32, 16, 7


def check_masks(annotations: Records, sizes: NDArray[np.int64], *, evaluated: bool) -> None:
    """Check every object's segmentation; pieces of one that cannot be drawn are left out, the others used.

    Args:
        annotations: With images that can be used.
        sizes: Width and height of each one's image, `[n, 2]`.
        evaluated: Crowds need a mask too: training leaves them out, evaluation does not.
    """
    needed = np.array([evaluated or not record.get("iscrowd", 0) for record in annotations.left], dtype=bool)
    absent = np.array([_is_absent(segmentation) for segmentation in annotations.column("segmentation")], dtype=bool)
    problem = "no segmentation, which Mask R-CNN needs for every object"
    annotations.refuse(needed & absent, problem, CORRECT_OR_DROP)
    sizes = sizes[~(needed & absent)]
    problems = _mend_polygons(annotations, sizes)
    for row, value in enumerate(annotations.column("segmentation")):
        if type(value) is dict and value:
            if problem := broken_run_lengths(value, *sizes[row].tolist()):
                problems[row] = problem
        elif type(value) is not list and not _is_absent(value):
            problems[row] = shown(value)
    broken = np.zeros(len(annotations.left), dtype=bool)
    broken[list(problems)] = True
    problem = "segmentation is neither polygons nor an RLE mask"
    annotations.refuse(broken, problem, CORRECT_OR_DROP, lambda row: problems[row])


def _mend_polygons(annotations: Records, sizes: NDArray[np.int64]) -> dict[int, str]:
    """Take one flat polygon for a list of one, and leave out pieces that cannot be drawn where others can.

    Returns:
        What is wrong with the others, by position.
    """
    segmentations = annotations.column("segmentation")
    polygons = [row for row, value in enumerate(segmentations) if type(value) is list and not _is_absent(value)]
    broken = broken_polygons([segmentations[row] for row in polygons], sizes[polygons])
    problems = {polygons[at]: problem for at, problem in broken.items()}
    flat, pieces = {}, {}
    for row in problems:
        value, size = segmentations[row], sizes[row : row + 1]
        if not _problem_of_polygons([[value]], size):
            flat[row] = [value]
        elif good := [piece for piece in value if not _problem_of_polygons([[piece]], size)]:
            pieces[row] = good
    for found, problem, remedy in (
        (flat, "segmentation is one polygon, not a list of polygons", "taken as a list of one"),
        (pieces, "pieces of a segmentation that are no polygons", "left out, the object's other pieces are used"),
    ):
        which = np.zeros(len(segmentations), dtype=bool)
        which[list(found)] = True
        annotations.note(which, problem, remedy)
        annotations.change("segmentation", found)
    return {row: problem for row, problem in problems.items() if row not in flat and row not in pieces}


def _is_absent(segmentation: Any) -> bool:
    """Whether there is no mask: also a list of empty polygons is none."""
    if type(segmentation) is list:
        return not any(segmentation) if all(type(piece) is list for piece in segmentation) else False
    return is_missing(segmentation) or segmentation == {}


def broken_polygons(segmentations: Sequence[list[Any]], sizes: NDArray[np.int64]) -> dict[int, str]:
    """Find lists of polygons that cannot be drawn.

    Args:
        segmentations: one list of polygons for each object, none empty.
        sizes: width and height of each object's image, `[n, 2]`.

    Returns:
        What is wrong, by position; nothing for what can be drawn.
    """
    problems = {}
    for start in range(0, len(segmentations), _CHUNK):
        chunk, chunk_sizes = segmentations[start : start + _CHUNK], sizes[start : start + _CHUNK]
        if _problem_of_polygons(chunk, chunk_sizes):
            # Only now one by one: a hundred times slower.
            for row, segmentation in enumerate(chunk):
                if problem := _problem_of_polygons([segmentation], chunk_sizes[row : row + 1]):
                    problems[start + row] = problem
    return problems


def _problem_of_polygons(segmentations: Sequence[list[Any]], sizes: NDArray[np.int64]) -> str:
    """What is wrong with the polygons of some objects; nothing if all can be drawn."""
    polygons = list(itertools.chain.from_iterable(segmentations))
    if set(map(type, polygons)) != {list}:
        return "not a list of lists of coordinates"
    lengths = np.fromiter(map(len, polygons), np.int64, len(polygons))
    if (lengths < 6).any() or (lengths % 2).any():
        return f"{lengths[(lengths < 6) | (lengths % 2 == 1)][0]} coordinates, which is no even number from 6 on"
    flat = list(itertools.chain.from_iterable(polygons))
    if not set(map(type, flat)) <= {int, float}:
        return "coordinates that are not numbers"
    try:
        corners = np.array(flat, dtype=np.float64).reshape(-1, 2)
    except OverflowError:
        return "coordinates far outside the image"
    if not np.isfinite(corners).all():
        return "coordinates that are not finite"
    polygons_of = np.fromiter(map(len, segmentations), np.int64, len(segmentations))
    limits = np.repeat(np.repeat(sizes, polygons_of, axis=0), lengths // 2, axis=0)
    # Annotators draw across the border, and drawing clips. Drawing also takes memory in proportion to the outline.
    if ((corners < -limits) | (corners > 2 * limits)).any():
        return "coordinates far outside the image"
    return ""


def broken_run_lengths(segmentation: dict[str, Any], width: int, height: int) -> str:
    """What is wrong with a run-length encoded mask; nothing if it can be decoded."""
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if type(size) is not list or any(type(side) is not int for side in size) or size != [height, width]:
        return f"height and width {str(size)[:40]}, where the image has {[height, width]}"
    runs = _decompressed(counts) if type(counts) is str else None
    if type(counts) is list and set(map(type, counts)) <= {int}:
        with contextlib.suppress(OverflowError):
            runs = np.array(counts, dtype=np.int64)
    if runs is None or (runs < 0).any() or (runs > width * height).any():
        return "counts that are no run lengths"
    if runs.sum() != width * height:
        return f"counts that sum to {runs.sum()}, where the image has {width * height} pixels"
    return ""


def _decompressed(counts: str) -> NDArray[np.int64] | None:
    """Run lengths of COCO's compressed string, some perhaps negative; None for what is no such string."""
    codes = np.frombuffer(counts.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.int64)
    codes -= _FIRST_CHARACTER
    if not codes.size or codes.min() < 0 or codes.max() > 63 or codes[-1] & _CONTINUES:
        return None
    ends = ((codes & _CONTINUES) == 0).nonzero()[0]
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _MOST_CHARACTERS:
        return None
    shifts = 5 * (np.arange(codes.size) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & 31) << shifts, starts)
    values -= np.where(codes[ends] & _SIGN, np.int64(1) << (5 * lengths), 0)
    # From the fourth on, each is the difference to the one two before.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
