"""Plans that grow: the rows of an earlier command of the same name stay in its table."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from dynrcnn_ray.store.labels import NO_CELL

_OF_THE_PLAN = ("title", "anchor", "metrics", "scale", "command")
"""What all lines share: those of the latest command."""
_OF_A_ROW = ("labels", "reported", "metric_prefix", "paper_split")
"""What the lines of a row share: those of the latest command that has it."""

_Line = Mapping[str, Any]
_Row = tuple[str, int]
"""A row of one of the two plans: "old" or "new", and its number there."""


def with_earlier_rows(
    earlier: pd.DataFrame | None, new: Sequence[_Line], at_earlier_seeds: Iterable[_Line] = ()
) -> list[dict[str, Any]]:
    """The lines of an earlier plan and then those of a new one.

    A row of both has the seeds of both. It is known by its trials: a command that varies one field more names the same
    configuration otherwise, and one that gives an old name to another configuration begins that row anew.

    Args:
        earlier: rows as in `schemas.PLAN`; None or empty: nothing ran before.
        new: rows as in `schemas.PLAN`, without `experiment`; at least one.
        at_earlier_seeds: what the new plan would be with the earlier one's seeds, to know their trials by.
    """
    old = [] if earlier is None else earlier.drop(columns="experiment").to_dict("records")
    of_trial: dict[str, list[int]] = {}
    for line in (*new, *at_earlier_seeds):
        if line["trial_id"] is not None:
            of_trial.setdefault(line["trial_id"], []).append(line["row"])
    known_as = _rows_of_old_lines(old, new, of_trial)
    places: dict[_Row, int] = {}
    for row in (*known_as, *(("new", line["row"]) for line in new)):
        places.setdefault(row, len(places))
    place_of_old = {line["row"]: places[row] for line, row in zip(reversed(old), reversed(known_as), strict=True)}
    place_of_new = {line["row"]: places["new", line["row"]] for line in new}
    first_of_new = {line["row"]: line for line in reversed(new)}

    lines: dict[tuple[int, int | None], dict[str, Any]] = {}
    for line, (plan, row) in zip(old, known_as, strict=True):
        if plan == "old":
            _add(lines, places[plan, row], line, line, place_of_old)
        elif line["trial_id"] in of_trial:
            _add(lines, places[plan, row], line, first_of_new[row], place_of_new)
    for line in new:
        _add(lines, place_of_new[line["row"]], line, line, place_of_new)
    shared = {name: new[0][name] for name in _OF_THE_PLAN}
    return [{**line, **shared} for line in sorted(lines.values(), key=lambda line: line["row"])]


def _rows_of_old_lines(old: Sequence[_Line], new: Sequence[_Line], of_trial: Mapping[str, Sequence[int]]) -> list[_Row]:
    """For each line of the earlier plan the row that it is now in: its trial's, or of its labels, or its own."""
    of_labels = {_labels(line): line["row"] for line in new}
    known_as: list[_Row] = []
    for line in old:
        rows, named = of_trial.get(line["trial_id"], []), of_labels.get(_labels(line))
        row = named if not rows or named in rows else rows[0]
        known_as.append(("old", line["row"]) if row is None else ("new", row))
    return known_as


def _add(
    lines: dict[tuple[int, int | None], dict[str, Any]], place: int, line: _Line, row: _Line, places: Mapping[int, int]
) -> None:
    """Add a line at a place, with what its row shares; `places` are those of the rows of that row's plan."""
    seed = None if pd.isna(line["seed"]) else int(line["seed"])
    baseline = None if pd.isna(row["baseline_row"]) else places.get(int(row["baseline_row"]))
    of_row = {name: row[name] for name in _OF_A_ROW if name in row}
    values = {name: None if _is_nan(value) else value for name, value in {**line, **of_row}.items()}
    lists = {"labels": dict(row["labels"]), "reported": dict(row["reported"])}
    lines[place, seed] = {**values, **lists, "row": place, "seed": seed, "baseline_row": baseline}


def _labels(line: _Line) -> tuple[tuple[str, str], ...]:
    """An empty cell is one that is switched off; a column that the row does not have is left out."""
    return tuple(sorted((name, cell) for name, cell in dict(line["labels"]).items() if cell != NO_CELL))


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def with_names_of_today(plan: pd.DataFrame) -> pd.DataFrame:
    """A plan of an earlier release on the all-reduce, whose shards were workers, by the names of today."""
    former = {"from_one_T_now": "from_baseline_T_now", "from_one_beta_now": "from_baseline_beta_now"}
    if plan.empty or not former.keys() & set(plan["metrics"].iloc[0]):
        return plan
    metrics = [[former.get(name, name) for name in names] for names in plan["metrics"]]
    labels = [
        {"Shards" if name == "Workers" else name: cell for name, cell in cells.items()} for cells in plan["labels"]
    ]
    return plan.assign(metrics=metrics, labels=labels)
