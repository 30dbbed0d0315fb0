"""What is wrong with the categories of a COCO annotations file, and which of them are no classes."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dynrcnn_ray.data.check.faults import Fault, Records
from dynrcnn_ray.data.check.values import as_whole_number, why_no_id


def check_categories(categories: Records, *, left_out: Collection[int]) -> None:
    """Check categories whose fields are there; those left out are not looked at."""
    categories.convert("id", {int}, as_whole_number)
    categories.convert("name", {str}, lambda name: str(name) if type(name) is int else None)
    problems = [f"id {why}" if (why := why_no_id(value)) else "" for value in categories.column("id")]
    categories.refuse_each(problems, "number the categories, and in category_id too", "name")
    categories.keep(np.array([number not in left_out for number in categories.column("id")], dtype=bool))
    no_text = np.array([type(name) is not str for name in categories.column("name")], dtype=bool)
    categories.refuse(no_text, "name is no text", "give each category a name", "name")
    for key in ("id", "name"):
        twice = repeated(categories.column(key))
        categories.refuse(
            np.array(twice, dtype=bool), f"{key} given to several categories", f"give each its own {key}", "name"
        )
    categories.note_conversions()


def repeated(values: Sequence[Any]) -> list[bool]:
    """All values that are there more than once, the first of them too."""
    counts = Counter(values)
    return [counts[value] > 1 for value in values]


def used_categories(content: Mapping[str, Any]) -> set[int]:
    """The ids that a file's annotations name, whatever else is wrong with them."""
    named = [record.get("category_id") for record in content["annotations"] if isinstance(record, dict)]
    return _whole_numbers(value for value in named if type(value) in (int, float, str))


def root_categories(content: Mapping[str, Any], used: Collection[int]) -> dict[int, str]:
    """Categories that are no classes, such as the one under which Roboflow's exports hang all others.

    Such a category is used by no annotation, and is another's supercategory or has another's name.

    Args:
        content: An annotations file.
        used: Ids of the categories that count as used, by annotations of this file or of another.

    Returns:
        What each is, by its id.
    """
    records = [record for record in content["categories"] if isinstance(record, dict)]
    left = {number: record for record in records if (number := as_whole_number(record.get("id"))) is not None}
    found = {}
    for number, record in list(left.items()):
        name = record.get("name")
        others = [other for key, other in left.items() if key != number]
        if number in used or type(name) is not str:
            continue
        if any(other.get("supercategory") == name for other in others):
            found[number] = f"{name!r} is the supercategory of others"
        elif any(other.get("name") == name for other in others):
            found[number] = f"{name!r} is another's name too"
        if number in found:
            del left[number]
    return found


def note_root_categories(file: Path, roots: Mapping[int, str]) -> list[Fault]:
    """A note for each category that is left out."""
    return [
        Fault(
            file, "file", f"category {number} has no annotations and {what}", "left out, it is no class", is_error=False
        )
        for number, what in roots.items()
    ]


def _whole_numbers(values: Iterable[Any]) -> set[int]:
    return {number for value in set(values) if (number := as_whole_number(value)) is not None}
