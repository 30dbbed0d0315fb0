"""The Parquet schema of the benchmarks, and the rows that fill it."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from benchmarks.paired import Paired
from dynrcnn_ray.store.schemas import optional, required, versioned
from dynrcnn_ray.training.environment import describe_hardware

_TEXT = pa.string()
_FLOAT = pa.float64()

BENCHMARKS = versioned(
    [
        required("name", _TEXT, "text"),
        required("what", _TEXT, "text"),
        optional("compared_with", _TEXT, "text"),
        optional("ratio", _FLOAT, "1"),
        optional("ratio_lower_quartile", _FLOAT, "1"),
        optional("ratio_upper_quartile", _FLOAT, "1"),
        optional("interval_low", _FLOAT, "1"),
        optional("interval_high", _FLOAT, "1"),
        optional("must", _TEXT, "text"),
        optional("reached", pa.bool_(), "1"),
        required("median_a", _FLOAT, "see unit"),
        optional("median_b", _FLOAT, "see unit"),
        required("unit", _TEXT, "text"),
        required("rounds", pa.int64(), "1"),
        optional("note", _TEXT, "text"),
        required("hardware", _TEXT, "text"),
        required("commit", _TEXT, "text"),
        required("measured_at", pa.timestamp("us", tz="UTC"), "UTC"),
    ]
)
"""One measured line. `median_a` is the median of `what`, `median_b` that of `compared_with`, both in `unit`; `ratio` is
the median of the rounds' ratios, with their quartiles, and `interval_*` holds the true median ratio with 95 %. A line
without `compared_with` states a single value. `reached` says whether the whole interval is where `must` wants it; it is
null where the interval lies on both sides of the limit, or where nothing is demanded."""

Row = dict[str, Any]
"""A row of `BENCHMARKS` without `commit`, which the command adds."""


@dataclass(frozen=True)
class Must:
    """What a value must reach: at least `low`, at most `high`."""

    text: str
    low: float = -math.inf
    high: float = math.inf

    def reached(self, low: float, high: float) -> bool | None:
        """Whether an interval lies within the limits; None if a limit lies within the interval."""
        if self.low <= low and high <= self.high:
            return True
        return False if high < self.low or low > self.high else None


def at_most(limit: float, unit: str = "x") -> Must:
    """A value or ratio of at most so much."""
    return Must(f"at most {limit:g} {unit}", high=limit)


def at_least(limit: float, unit: str = "x") -> Must:
    """A value or ratio of at least so much."""
    return Must(f"at least {limit:g} {unit}", low=limit)


def compared_row(
    name: str, what: str, compared_with: str, result: Paired, unit: str, *, must: Must | None = None, note: str = ""
) -> Row:
    """A row of two candidates: `what` over `compared_with`."""
    lower, upper = result.quartiles()
    low, high = result.interval()
    return _row(name, what, float(np.median(result.a)), unit, result.rounds, note, must, (low, high)) | {
        "compared_with": compared_with,
        "median_b": float(np.median(result.b)),
        "ratio": result.ratio,
        "ratio_lower_quartile": lower,
        "ratio_upper_quartile": upper,
        "interval_low": low,
        "interval_high": high,
    }


def stated_row(
    name: str, what: str, value: float, unit: str, *, rounds: int = 1, must: Must | None = None, note: str = ""
) -> Row:
    """A row of one value, compared with nothing; `must` is a limit of the value itself."""
    return _row(name, what, value, unit, rounds, note, must, (value, value))


def _row(
    name: str,
    what: str,
    median: float,
    unit: str,
    rounds: int,
    note: str,
    must: Must | None,
    interval: tuple[float, float],
) -> Row:
    return {
        "name": name,
        "what": what,
        "median_a": median,
        "unit": unit,
        "rounds": rounds,
        "note": note or None,
        "must": must.text if must else None,
        "reached": must.reached(*interval) if must else None,
        "hardware": describe_hardware(torch.device("cpu")),
        "measured_at": datetime.now(UTC),
    }
