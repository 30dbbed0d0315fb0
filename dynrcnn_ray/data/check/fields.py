"""What is wrong with single fields of a COCO annotations file: ids, references, file names, sizes, crowds."""

import os
import re
from collections.abc import Collection, Sequence, Set
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynrcnn_ray.data.check.categories import repeated
from dynrcnn_ray.data.check.faults import CORRECT_OR_DROP, Kind, Records
from dynrcnn_ray.data.check.values import as_flag, as_whole_number, why_no_id

_REQUIRED_FIELDS: dict[Kind, tuple[str, ...]] = {
    "image": ("id", "file_name", "width", "height"),
    "category": ("id", "name"),
    # An annotation's own id is for nothing: a run never reads it.
    "annotation": ("image_id", "category_id", "bbox"),
}
_LONGEST_SIDE = 100_000


def check_required(records: Records, kind: Kind) -> None:
    """Refuse what is no record or lacks a field."""
    records.refuse(~of_types(records.left, {dict}), "not a JSON object", "correct or drop it")
    required = _REQUIRED_FIELDS[kind]
    wanted = set(required)
    if all(record.keys() >= wanted for record in records.left):
        return
    absent = [[f"'{key}'" for key in required if key not in record] for record in records.left]
    problems = [f"has no {' and no '.join(keys)}" if keys else "" for keys in absent]
    records.refuse_each(problems, f"COCO asks for {', '.join(required)}")


def check_images(images: Records) -> None:
    """Check images whose fields are there."""
    for key in ("id", "width", "height"):
        images.convert(key, {int}, as_whole_number)
    problems = [f"id {why}" if (why := why_no_id(value)) else "" for value in images.column("id")]
    images.refuse_each(problems, "number the images, and in image_id too", "file_name")
    # Nobody knows which of them an annotation means.
    twice = np.array(repeated(images.column("id")), dtype=bool)
    images.refuse(twice, "id given to several images", CORRECT_OR_DROP, "file_name")
    images.refuse_each([_why_no_name(name) for name in images.column("file_name")], CORRECT_OR_DROP, "file_name")
    again = np.array(repeated([os.path.normpath(name) for name in images.column("file_name")]), dtype=bool)
    images.note(again, "file_name of several images", "to each of them the others' objects are background", "file_name")
    for side in ("width", "height"):
        values = images.column(side)
        fine = [type(value) is int and 0 < value <= _LONGEST_SIDE for value in values]
        images.refuse(~np.array(fine, dtype=bool), f"{side} is no number of pixels", CORRECT_OR_DROP, side)
    images.note_conversions()


def check_input_sizes(images: Records, long_side: int) -> None:
    """Refuse images of which nothing is left when they are resized.

    Args:
        images: With their sizes.
        long_side: The lowest limit of the long side at which images enter the network, in pixels; 0 for none.
    """
    if not long_side:
        return
    sizes = np.array([images.column("width"), images.column("height")], dtype=np.float64).reshape(2, -1)
    # torchvision rounds the scale to float32, and the side down.
    narrow = sizes.min(axis=0) * long_side < sizes.max(axis=0) * 1.001
    shown_sizes = [f"{width}x{height}" for width, height in sizes.T.astype(int).tolist()]
    images.refuse(
        narrow,
        f"a side of 0 pixels where the long side is resized to {long_side}",
        "cut such images into pieces, raise --data.long-side, or leave them out with --data.drop-invalid",
        lambda at: shown_sizes[at],
    )


def check_references(
    annotations: Records, images: Sequence[Any], categories: Sequence[Any], usable_categories: Set[int]
) -> None:
    """Check what annotations refer to; `images` and `categories` are all of the file, refused ones among them."""
    for key, known in (("image_id", _ids(images)), ("category_id", _ids(categories))):
        annotations.convert(key, {int}, as_whole_number)
        values = annotations.column(key)
        if not (of_types(values, {int}).all() and known >= set(values)):
            unknown = [not (type(value) in (int, float, str) and value in known) for value in values]
            annotations.refuse(np.array(unknown, dtype=bool), f"unknown {key}", CORRECT_OR_DROP, key)
    # A category that is refused speaks for itself, and so does an image: see `check.check_annotations`.
    annotations.keep(found(annotations.column("category_id"), usable_categories))


def check_crowds(annotations: Records) -> None:
    """Check `iscrowd`, which may be absent."""
    annotations.convert("iscrowd", {int}, as_flag, default=0)
    crowds = annotations.column("iscrowd", 0)
    if of_types(crowds, {int}).all() and set(crowds) <= {0, 1}:
        return
    fine = [type(value) is int and value in (0, 1) for value in crowds]
    annotations.refuse(~np.array(fine, dtype=bool), "iscrowd is neither 0 nor 1", CORRECT_OR_DROP, "iscrowd")


def check_own_ids(annotations: Records, *, evaluated: bool) -> None:
    """Refuse an annotation that is listed twice; of other ids that are odd tell where somebody may notice.

    A run never reads an annotation's id. pycocotools does: it marks a match by it, so it takes a match with the id 0
    for none, and mixes up those that share one.
    """
    ids = [record.get("id") for record in annotations.left]
    fine = of_types(ids, {int}).all()
    if fine and len(set(ids)) == len(ids) and 0 not in ids:
        return
    seen: set[str] = set()
    again = np.zeros(len(ids), dtype=bool)
    for at, record in enumerate(annotations.left):
        if "id" in record:
            key = repr([record.get(key) for key in ("id", "image_id", "category_id", "bbox")])
            again[at] = key in seen
            seen.add(key)
    annotations.refuse(again, "listed twice", CORRECT_OR_DROP, "image_id")
    if evaluated:
        numbers = [as_whole_number(record.get("id")) for record in annotations.left]
        texts = [repr(record.get("id")) for record in annotations.left]
        problems = [
            _oddity_of_id(record, number, is_repeated=again)
            for record, number, again in zip(annotations.left, numbers, repeated(texts), strict=True)
        ]
        for problem in dict.fromkeys(filter(None, problems)):
            odd = np.array([each == problem for each in problems], dtype=bool)
            consequence = "counted like any other, where pycocotools takes matches for misses"
            annotations.note(odd, problem, consequence, "image_id")


def _oddity_of_id(record: dict[str, Any], number: int | None, *, is_repeated: bool) -> str:
    """What is odd about an annotation's id; nothing if it is a number of its own other than 0."""
    if record.get("id") is None:
        return "no id"
    if number is None:
        return "an id that is no whole number"
    if number == 0:
        return "id 0"
    return "an id that is given several times" if is_repeated else ""


def of_types(values: Sequence[Any], types: set[type]) -> NDArray[np.bool_]:
    """Which values are of one of the types; a bool is no int here."""
    if set(map(type, values)) <= types:
        return np.ones(len(values), dtype=bool)
    return np.array([type(value) in types for value in values], dtype=bool)


def found(values: Sequence[Any], known: Collection[Any]) -> NDArray[np.bool_]:
    """Which values, all of them hashable, are known."""
    known = set(known)
    if known >= set(values):
        return np.ones(len(values), dtype=bool)
    return np.array([value in known for value in values], dtype=bool)


def _ids(records: Sequence[Any]) -> set[Any]:
    """All ids, those among them that are none too: what refers to a refused record is not at fault itself."""
    ids = [record.get("id") for record in records if isinstance(record, dict)]
    if of_types(ids, {int}).all():
        return set(ids)
    plain = {value for value in ids if type(value) in (int, float, str)}
    return plain | {number for value in plain if (number := as_whole_number(value)) is not None}


def _why_no_name(name: Any) -> str:
    """What keeps a value from being a path below the split's folder; nothing if it is one."""
    if type(name) is not str:
        return "file_name is no text"
    if "\0" in name:
        return "file_name holds the character NUL"
    if name.startswith("/") or PureWindowsPath(name).is_absolute():
        return "file_name is an absolute path, not one below the split's folder"
    parts = re.split(r"[/\\]", name)
    if ".." in parts:
        return "file_name leads out of the split's folder"
    return "" if Path(name).name and parts[-1] not in ("", ".") else "file_name names no file"
