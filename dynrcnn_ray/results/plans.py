"""Plans that add up: the rows of an earlier command of the same name stay in its table."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

_LATEST = ("title", "anchor", "metrics", "scale", "command")
"""Fields that all rows of a plan share: those of the latest command."""


def added_up(earlier: pd.DataFrame | None, new: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The lines of an earlier plan and then those of a new one; a row is known by its labels, empty cells left out.

    A row that both have is one row, with the seeds of both; where both have the same seed, the new line counts.

    Args:
        earlier: rows as in `schemas.PLAN`; None or empty: nothing ran before.
        new: rows as in `schemas.PLAN`, without `experiment`; at least one.
    """
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    order: dict[tuple[tuple[str, str], ...], int] = {}
    old = [] if earlier is None else earlier.drop(columns="experiment").to_dict("records")
    for plan in (old, new):
        known = {line["row"]: _labels(line) for line in plan}
        for line in plan:
            labels = known[line["row"]]
            index = order.setdefault(labels, len(order))
            baseline = line["baseline_row"]
            refers_to = None if pd.isna(baseline) else known.get(int(baseline))
            seed = None if pd.isna(line["seed"]) else int(line["seed"])
            lines[labels, seed] = {
                **{name: None if _is_nan(value) else value for name, value in line.items()},
                **{name: new[0][name] for name in _LATEST},
                "labels": dict(line["labels"]),
                "reported": dict(line["reported"]),
                "row": index,
                "seed": seed,
                "baseline_row": None if refers_to is None else order.setdefault(refers_to, len(order)),
            }
    return sorted(lines.values(), key=lambda line: line["row"])


def _labels(line: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, cell) for name, cell in dict(line["labels"]).items() if cell))


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
