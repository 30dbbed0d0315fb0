"""What is wrong with a COCO annotations file: every record is looked at, and each problem gets one line.

Each record is named by the first problem that it has. What remains after all refusals can be trained on and measured
with. Hundreds of thousands of records take seconds: records are compared as columns, one by one only where a column
holds something wrong.
"""

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynrcnn_ray.data.annotations import DataError, annotation_path, is_unlabelled, read_annotations
from dynrcnn_ray.data.check_masks import broken_polygons, broken_run_lengths
from dynrcnn_ray.data.findings import Finding, Records, shown

_REQUIRED_FIELDS = {
    "image": ("id", "file_name", "width", "height"),
    "category": ("id", "name"),
    "annotation": ("id", "image_id", "category_id", "bbox"),
}
_LARGEST_ID = 2**53
"""Larger whole numbers change where a tool reads them as floating-point numbers."""
_LARGEST_NUMBER = 1e9
_LONGEST_SIDE = 100_000
_NO_AREA = object()
_ROUNDING = 1.0
"""Pixels by which a box may stick out of its image. COCO's own boxes do, by rounding; they are clipped."""
_CORRECT_OR_DROP = "correct them, or leave them out with --data.drop-invalid"


@dataclass(frozen=True)
class CheckedSplit:
    """A split's annotations, and what is wrong with them.

    Attributes:
        file: The annotations file.
        findings: Errors and notes.
        content: The file's content as parsed; None if it could not be.
        image_rows: Positions in `images` of those that can be used, ascending.
        annotation_rows: Positions in `annotations` of those that can be used, ascending. Those of an image that
            cannot be used are not among them.
    """

    file: Path
    findings: list[Finding]
    content: dict[str, Any] | None
    image_rows: NDArray[np.int64]
    annotation_rows: NDArray[np.int64]

    @property
    def errors(self) -> list[Finding]:
        """The findings that are more than notes."""
        return [finding for finding in self.findings if finding.is_error]

    def objects_per_image(self) -> NDArray[np.int64]:
        """Objects of each image that can be used, `[num_images]`: crowds and boxes without extent are none."""
        if self.content is None:
            return np.zeros(0, dtype=np.int64)
        images = [self.content["images"][row] for row in self.image_rows.tolist()]
        records = [self.content["annotations"][row] for row in self.annotation_rows.tolist()]
        position = {image["id"]: index for index, image in enumerate(images)}
        image_of = np.array([position[record["image_id"]] for record in records], dtype=np.int64)
        sizes = np.array([(image["width"], image["height"]) for image in images], dtype=np.int64).reshape(-1, 2)
        xywh = np.array([record["bbox"] for record in records], dtype=np.float64).reshape(-1, 4)
        counts = has_extent(clipped_xyxy(xywh, sizes[image_of]))
        counts &= ~np.array([record.get("iscrowd", 0) for record in records], dtype=bool)
        return np.bincount(image_of[counts], minlength=len(images))

    def num_objects(self) -> int:
        """Objects that can be used."""
        return int(self.objects_per_image().sum())


def check_split(root: str | Path, split: str, *, include_masks: bool = False, evaluated: bool = False) -> CheckedSplit:
    """Check a split's annotations file. Images are not looked at: see `check_images.check_images`.

    A box without extent (zero width or height) counts by what the split is for. COCO's own train2017 has two of them,
    and training leaves them out, so there they are a note. In evaluation no detection can match one and each
    lowers the average precision, so there they are an error. Likewise the id 0: COCO's evaluation marks a match by the
    annotation's id, so it takes a match with number 0 for none, and ours gives COCO's numbers. `area` is looked at
    where it counts, in evaluation.

    Args:
        root: Folder of the data set.
        split: Name of the split.
        include_masks: Every object needs a mask.
        evaluated: Average precision is measured on the split.
    """
    file = annotation_path(root, split)
    try:
        content = read_annotations(file)
    except DataError as error:
        problem, _, remedy = str(error).removeprefix(f"{file}: ").rpartition("; ")
        nothing = np.empty(0, dtype=np.int64)
        return CheckedSplit(file, [Finding(file, "file", problem, remedy)], None, nothing, nothing)
    checked = check_annotations(file, content, include_masks=include_masks, evaluated=evaluated)
    if not is_unlabelled(file) and not checked.num_objects():
        remedy = "a split needs objects to train on or to measure with"
        checked.findings.append(Finding(file, "file", "no object can be used", remedy))
    return checked


def check_annotations(
    file: Path, content: dict[str, Any], *, include_masks: bool = False, evaluated: bool = False
) -> CheckedSplit:
    """Check what `read_annotations` has read; the arguments are those of `check_split`."""
    categories = Records(file, "category", content["categories"])
    images = Records(file, "image", content["images"])
    annotations = Records(file, "annotation", content["annotations"])
    _check_categories(categories)
    image_ids_of_file = _check_images(images)
    _check_ids(annotations, image_ids_of_file, categories, evaluated=evaluated)

    # An annotation goes with its image.
    position = {image_id: index for index, image_id in enumerate(images.column("id"))}
    annotations.keep(_found(annotations.column("image_id"), position.keys()))
    sizes = np.array(list(zip(images.column("width"), images.column("height"), strict=True)), np.int64).reshape(-1, 2)
    _check_crowds(annotations)
    _check_boxes(annotations, position, sizes, evaluated=evaluated)
    _check_masks(annotations, position, sizes, include_masks=include_masks, evaluated=evaluated)

    findings = [*categories.findings, *images.findings, *annotations.findings]
    if not len(images.rows):
        findings.append(Finding(file, "file", "no image can be used", "correct the problems above"))
    return CheckedSplit(file, findings, content, images.rows, annotations.rows)


def clipped_xyxy(xywh: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float32]:
    """The part of each box that is inside its image.

    Args:
        xywh: COCO boxes in pixels, `[n, 4]`.
        sizes: width and height of each box's image, `[n, 2]`.

    Returns:
        Boxes `[n, 4]`, xyxy pixels.
    """
    corners = np.stack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    inside = np.clip(corners, 0, sizes[:, None, :])
    return inside.reshape(-1, 4).astype(np.float32)


def has_extent(xyxy: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which boxes have a width and a height: `[n]`."""
    return (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])


def _check_fields(records: Records, kind: str) -> None:
    records.refuse(~_of_types(records.left, {dict}), "not a JSON object", "correct or drop it")
    for key in _REQUIRED_FIELDS[kind]:
        present = np.fromiter((key in record for record in records.left), bool, len(records.left))
        records.refuse(~present, f"has no '{key}'", f"COCO asks for {', '.join(_REQUIRED_FIELDS[kind])}")


def _check_categories(categories: Records) -> None:
    _check_fields(categories, "category")
    categories.refuse(~_are_ids(categories.column("id")), "id is no whole number", "number the categories")
    names = categories.column("name")
    categories.refuse(~_of_types(names, {str}), "name is no text", "give each category a name", "name")
    for key in ("id", "name"):
        twice = _repeated(categories.column(key))
        categories.refuse(twice, f"{key} given to several categories", f"give each its own {key}", "name")


def _check_images(images: Records) -> set[int]:
    """Check the images; returns the ids of all, also of refused ones."""
    _check_fields(images, "image")
    images.refuse(~_are_ids(images.column("id")), "id is no whole number", "number the images, and in image_id too")
    ids = images.column("id")
    # Nobody knows which of them an annotation means.
    images.refuse(_repeated(ids), "id given to several images", _CORRECT_OR_DROP, "file_name")
    fine = [_is_plain_path(name) for name in images.column("file_name")]
    images.refuse(
        ~np.array(fine, dtype=bool), "file_name is no path below the split's folder", _CORRECT_OR_DROP, "file_name"
    )
    for side in ("width", "height"):
        values = images.column(side)
        fine = _of_types(values, {int})
        fine &= np.array([ok and 0 < value <= _LONGEST_SIDE for ok, value in zip(fine, values, strict=True)], bool)
        images.refuse(~fine, f"{side} is no number of pixels", _CORRECT_OR_DROP, side)
    return set(ids)


def _is_plain_path(name: Any) -> bool:
    if type(name) is not str or not name or "\0" in name or not name.isprintable():
        return False
    path = Path(name)
    return path.name != "" and not path.is_absolute() and ".." not in path.parts


def _check_ids(annotations: Records, image_ids: set[int], categories: Records, *, evaluated: bool) -> None:
    _check_fields(annotations, "annotation")
    annotations.refuse(~_are_ids(annotations.column("id")), "id is no whole number", "number the annotations from 1")
    ids = annotations.column("id")
    if len(set(ids)) < len(ids):
        seen: set[int] = set()
        again = np.array([number in seen or seen.add(number) is not None for number in ids], dtype=bool)
        annotations.refuse(again, "id that an earlier annotation has", "number the annotations from 1", "image_id")
    zero = np.array(annotations.column("id"), dtype=np.int64) == 0
    if evaluated:
        annotations.refuse(
            zero, "id 0, which COCO's evaluation takes for 'no match'", "number the annotations from 1", "image_id"
        )
    else:
        annotations.note(zero, "id 0, which COCO's evaluation takes for 'no match'", "better number them from 1")
    for key, known in (("image_id", image_ids), ("category_id", set(categories.column("id")))):
        values = annotations.column(key)
        fine = _of_types(values, {int})
        if fine.all():
            fine = _found(values, known)
        else:
            fine = _each(ok and value in known for ok, value in zip(fine, values, strict=True))
        annotations.refuse(~fine, f"unknown {key}", _CORRECT_OR_DROP, key)


def _check_crowds(annotations: Records) -> None:
    crowds = annotations.column("iscrowd", 0)
    fine = _of_types(crowds, {int})
    if not fine.all() or not set(crowds) <= {0, 1}:
        fine = _each(ok and value in (0, 1) for ok, value in zip(fine, crowds, strict=True))
    annotations.refuse(~fine, "iscrowd is neither 0 nor 1", _CORRECT_OR_DROP, "iscrowd")


def _check_boxes(annotations: Records, position: dict[int, int], sizes: NDArray[np.int64], *, evaluated: bool) -> None:
    annotations.refuse(
        ~_are_boxes(annotations.column("bbox")), "bbox is not four finite numbers", _CORRECT_OR_DROP, "bbox"
    )
    negative = np.minimum(*_xywh(annotations)[:, 2:].T) < 0
    annotations.refuse(negative, "bbox of negative width or height", "give x, y, width, height", "bbox")
    xywh, image_sizes = _xywh(annotations), _image_sizes(annotations, position, sizes)
    beyond = np.maximum(-xywh[:, :2], xywh[:, :2] + xywh[:, 2:] - image_sizes)
    outside = np.maximum(*beyond.T) > _ROUNDING
    annotations.refuse(outside, "bbox outside its image", _CORRECT_OR_DROP, "bbox")
    xywh, image_sizes = xywh[~outside], image_sizes[~outside]
    flat = ~has_extent(clipped_xyxy(xywh, image_sizes))
    harmless = flat & (not evaluated or np.array(annotations.column("iscrowd", 0), dtype=bool))
    annotations.note(harmless, "bbox of zero width or height", "left out of training", "bbox")
    annotations.refuse(
        flat & ~harmless, "bbox of zero width or height, which no detection can match", _CORRECT_OR_DROP, "bbox"
    )
    if not evaluated:
        return
    areas = annotations.column("area", _NO_AREA)
    missing = _each(area is _NO_AREA for area in areas)
    annotations.note(missing, "has no 'area', by which AP_S, AP_M and AP_L sort objects", "that of its box is taken")
    largest = (_image_sizes(annotations, position, sizes) + _ROUNDING).prod(1).tolist()
    fine = [
        area is _NO_AREA or (type(area) in (int, float) and 0 <= area <= most)
        for area, most in zip(areas, largest, strict=True)
    ]
    annotations.refuse(~np.array(fine, dtype=bool), "area is not from 0 to that of the image", _CORRECT_OR_DROP, "area")


def _check_masks(
    annotations: Records, position: dict[int, int], sizes: NDArray[np.int64], *, include_masks: bool, evaluated: bool
) -> None:
    if include_masks:
        # Training leaves crowds out; evaluation needs their masks too.
        needed = [evaluated or not record.get("iscrowd", 0) for record in annotations.left]
        absent = [_is_absent(segmentation) for segmentation in annotations.column("segmentation")]
        annotations.refuse(
            np.array(needed, dtype=bool) & np.array(absent, dtype=bool),
            "no segmentation, which Mask R-CNN needs for every object",
            _CORRECT_OR_DROP,
        )
    segmentations, image_sizes = annotations.column("segmentation"), _image_sizes(annotations, position, sizes)
    polygons = [row for row, value in enumerate(segmentations) if type(value) is list and value]
    found = broken_polygons([segmentations[row] for row in polygons], image_sizes[polygons])
    problems = {polygons[row]: problem for row, problem in found.items()}
    for row, value in enumerate(segmentations):
        if type(value) is dict and value:
            if problem := broken_run_lengths(value, *image_sizes[row].tolist()):
                problems[row] = problem
        elif type(value) is not list and not _is_absent(value):
            problems[row] = shown(value)
    broken = np.zeros(len(segmentations), dtype=bool)
    broken[list(problems)] = True
    annotations.refuse(
        broken, "segmentation is neither polygons nor an RLE mask", _CORRECT_OR_DROP, lambda row: problems[row]
    )


def _is_absent(segmentation: Any) -> bool:
    return segmentation is None or segmentation == [] or segmentation == {}


def _xywh(annotations: Records) -> NDArray[np.float64]:
    return np.array(annotations.column("bbox"), dtype=np.float64).reshape(-1, 4)


def _image_sizes(annotations: Records, position: dict[int, int], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    rows = [position[image_id] for image_id in annotations.column("image_id")]
    return sizes[np.array(rows, dtype=np.int64)]


def _of_types(values: Sequence[Any], types: set[type]) -> NDArray[np.bool_]:
    """Which values are of one of the types; a bool is no int here."""
    if set(map(type, values)) <= types:
        return np.ones(len(values), dtype=bool)
    return _each(type(value) in types for value in values)


def _are_ids(values: Sequence[Any]) -> NDArray[np.bool_]:
    fine = _of_types(values, {int})
    if fine.all() and values and min(values) >= -_LARGEST_ID and max(values) <= _LARGEST_ID:
        return fine
    return _each(ok and -_LARGEST_ID <= value <= _LARGEST_ID for ok, value in zip(fine, values, strict=True))


def _are_boxes(values: Sequence[Any]) -> NDArray[np.bool_]:
    if set(map(type, values)) == {list} and set(map(len, values)) == {4}:
        flat = list(itertools.chain.from_iterable(values))
        if set(map(type, flat)) <= {int, float}:
            with contextlib.suppress(OverflowError):
                return np.max(np.abs(np.array(flat, dtype=np.float64).reshape(-1, 4)), axis=1) < _LARGEST_NUMBER
    return _each(map(_is_box, values))


def _is_box(value: Any) -> bool:
    return type(value) is list and len(value) == 4 and all(_is_number(side) for side in value)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -_LARGEST_NUMBER < value < _LARGEST_NUMBER


def _found(values: Sequence[Any], known: Set[int]) -> NDArray[np.bool_]:
    """Which ids, all of them ids, are known."""
    if known >= set(values):
        return np.ones(len(values), dtype=bool)
    return _each(value in known for value in values)


def _each(values: Iterable[Any]) -> NDArray[np.bool_]:
    return np.fromiter(map(bool, values), bool)


def _repeated(values: Sequence[Any]) -> NDArray[np.bool_]:
    """All values that are there more than once, the first of them too."""
    counts = Counter(values)
    return np.fromiter((counts[value] > 1 for value in values), bool, len(values))
