"""Plans that add up: the rows of an earlier command of the same name stay in its table."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dynrcnn_ray.results.labels import NO_CELL

_LATEST = ("title", "anchor", "metrics", "scale", "command")
"""Fields that all rows of a plan share: those of the latest command."""


def added_up(earlier: pd.DataFrame | None, new: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The lines of an earlier plan and then those of a new one.

    A row of both is one row, with the seeds of both; where both have the same seed, the new line counts. It is known by
    its labels, or else by a trial: a later command that varies one field more names the same trial otherwise, and the
    row then has the new labels.

    Args:
        earlier: rows as in `schemas.PLAN`; None or empty: nothing ran before.
        new: rows as in `schemas.PLAN`, without `experiment`; at least one.
    """
    lines: dict[tuple[int, int | None], dict[str, Any]] = {}
    labels: dict[int, dict[str, str]] = {}
    old = [] if earlier is None else earlier.drop(columns="experiment").to_dict("records")
    for plan, places in ((old, {line["row"]: line["row"] for line in old}), (new, _places(new, old))):
        for line in plan:
            index = places[line["row"]]
            seed = None if pd.isna(line["seed"]) else int(line["seed"])
            baseline = None if pd.isna(line["baseline_row"]) else places.get(int(line["baseline_row"]))
            labels[index] = dict(line["labels"])
            lines[index, seed] = {
                **{name: None if _is_nan(value) else value for name, value in line.items()},
                **{name: new[0][name] for name in _LATEST},
                "reported": dict(line["reported"]),
                "row": index,
                "seed": seed,
                "baseline_row": baseline,
            }
    ordered = sorted(lines.values(), key=lambda line: line["row"])
    return [{**line, "labels": labels[line["row"]]} for line in ordered]


def _places(new: Sequence[Mapping[str, Any]], old: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Where each new row stands: with the earlier row of its labels, or else of one of its trials, or behind all."""
    of_labels = {_labels(line): line["row"] for line in old}
    of_trial = {line["trial_id"]: line["row"] for line in old if isinstance(line["trial_id"], str)}
    places: dict[int, int] = {}
    for line in new:
        if (place := of_labels.get(_labels(line))) is not None:
            places[line["row"]] = place
    for line in new:
        place = of_trial.get(line["trial_id"])
        if line["row"] not in places and place is not None and place not in places.values():
            places[line["row"]] = place
    behind = max((line["row"] for line in old), default=-1) + 1
    for row in dict.fromkeys(line["row"] for line in new):
        if row not in places:
            places[row] = behind
            behind += 1
    return places


def _labels(line: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """An empty cell is one that is switched off; a column that the row does not have is left out."""
    return tuple(sorted((name, cell) for name, cell in dict(line["labels"]).items() if cell != NO_CELL))


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
