"""What was found of a trial's failures as tables of text."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class TextTable(NamedTuple):
    """A title, the columns' names and the rows' cells."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def class_table(classes: Sequence[dict[str, Any]]) -> TextTable:
    """A line for each class, from rows as in `inspection.CLASSES`."""
    numbers = ("AP", "AP50", "AP75", "AR")
    rows = [
        [row["name"], str(row["objects"]), str(row["detections"]), *(_percent(row[name]) for name in numbers)]
        for row in classes
        if row["category_id"] is not None
    ]
    return TextTable("Classes, in percent", ["class", "objects", "detections", *numbers], rows)


def error_table(errors: Sequence[dict[str, Any]]) -> TextTable:
    """A line for each kind of error, from rows as in `inspection.ERRORS`."""
    rows = [[row["kind"], str(row["count"]), f"{row['AP50_gain']:.1f}", row["meaning"]] for row in errors]
    title = "Kinds of errors at IoU 0.5 (TIDE); the gain is what AP50 would rise by without them, in percent points"
    return TextTable(title, ["kind", "count", "AP50 gain", "meaning"], rows)


def confusion_table(classes: Sequence[dict[str, Any]], errors: Sequence[dict[str, Any]]) -> TextTable:
    """Objects by what they are (lines) and by what they were found as (columns)."""
    names = [row["name"] for row in classes if row["category_id"] is not None]
    rows = [[row["name"], *map(str, row["found_as"])] for row in classes]
    title = (
        f"Objects (lines) and what they were found as (columns), at IoU 0.5 and a score from {errors[0]['min_score']:g}"
    )
    return TextTable(title, ["", *names, "not found"], rows)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
