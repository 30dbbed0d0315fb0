"""Values that other tools write in another JSON type than COCO's: what converts without loss is converted."""

import math
import re
from typing import Any

_INTEGER = re.compile(r"\s*([+-]?\d{1,30})(\.0*)?\s*")
_LARGEST_EXACT = 2**53
"""Above it a floating-point number may have lost digits of an id."""
_FLAGS = {"0": 0, "1": 1, "false": 0, "true": 1, "0.0": 0, "1.0": 1, "": 0}


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: null, or the NaN that tables put in its place."""
    return value is None or (type(value) is float and math.isnan(value))


def as_whole_number(value: Any) -> int | None:
    """The whole number that a value stands for: 1.0 and "1" are 1; None for what is none or has lost digits."""
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer() and abs(value) <= _LARGEST_EXACT:
        return int(value)
    if type(value) is str and (match := _INTEGER.fullmatch(value)):
        return int(match[1])
    return None


def why_no_id(value: Any) -> str:
    """What keeps a value from being an id; nothing if it is one, a whole number of 64 bits."""
    if type(value) is int:
        return "" if -(2**63) <= value < 2**63 else "needs more than 64 bits"
    if type(value) is float and value.is_integer():
        return "is a floating-point number too large to hold every digit"
    if type(value) is float:
        return "is no whole number"
    return "is text" if type(value) is str else "is no number"


def as_number(value: Any) -> int | float | None:
    """The finite number that a value stands for: "2.5" is 2.5; None for what is none."""
    if type(value) is str:
        try:
            value = float(value)
        except ValueError:
            return None
    if type(value) is int:
        return value
    return value if type(value) is float and math.isfinite(value) else None


def as_box(value: Any) -> list[int | float] | None:
    """Four finite numbers, some of them perhaps written as text; None for what is no such list."""
    if type(value) is not list or len(value) != 4:
        return None
    sides = [as_number(side) for side in value]
    return [side for side in sides if side is not None] if None not in sides else None


def as_flag(value: Any) -> int | None:
    """0 or 1 for what says no or yes; a missing value is no. None for anything else."""
    if is_missing(value):
        return 0
    if type(value) is str:
        return _FLAGS.get(value.strip().lower())
    return int(value) if type(value) in (bool, int, float) and value in (0, 1) else None
