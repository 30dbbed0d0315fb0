"""How far the shards of a trial drift apart in T_now and beta_now, and from those of the baseline."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from dynrcnn_ray.report.drift_columns import ALL_REDUCE, DRIFT, SHARDS
from dynrcnn_ray.statistics.estimates import paired_difference

OF_SHARDS = {"T_now": "shard_T_now", "beta_now": "shard_beta_now"}
"""The fields of `schemas.DYNAMICS` that hold a list of the shards' values, by statistic."""
DYNAMICS_COLUMNS = ["trial_id", "step", *OF_SHARDS.values()]


def with_drift(plan: pd.DataFrame, trials: pd.DataFrame, dynamics: pd.DataFrame) -> pd.DataFrame:
    """The trials with the columns of `DRIFT`; null for a trial whose steps do not tell.

    A trial's first logged step is left out: no update is in force there yet.

    Args:
        plan: rows as in `schemas.PLAN`; in a row's `baseline_row` all shards follow the same values.
        trials: rows as in `schemas.TRIALS`.
        dynamics: rows as in `schemas.DYNAMICS` of these trials, a row an update.
    """
    courses = {
        trial_id: {statistic: shard_values(steps, statistic).iloc[1:] for statistic in OF_SHARDS}
        for trial_id, steps in dynamics.groupby("trial_id")
    }
    drifts = {}
    for trial_id, baseline in _baselines(plan).items():
        course, reference = courses.get(trial_id), courses.get(baseline)
        if course is None:
            continue
        drift = {f"apart_{name}": _apart(values) for name, values in course.items()}
        if reference is not None and baseline != trial_id:
            drift |= {f"from_baseline_{name}": _distance(values, reference[name]) for name, values in course.items()}
        drifts[trial_id] = drift
    found = pd.DataFrame.from_dict(drifts, orient="index", columns=list(DRIFT), dtype=float)
    return trials.join(found, on="trial_id")


def shard_values(steps: pd.DataFrame, statistic: str) -> pd.DataFrame:
    """What was in force on each shard of one trial: a row a logged step, in order, a column a shard.

    Args:
        steps: rows as in `schemas.DYNAMICS` of one trial; those without the shards' values are left out.
        statistic: a key of `OF_SHARDS`.
    """
    known = steps.dropna(subset=[OF_SHARDS[statistic]]).sort_values("step")
    values = np.stack(known[OF_SHARDS[statistic]].to_list()) if len(known) else np.empty((0, 0))
    return pd.DataFrame(values, index=known["step"].to_numpy())


def drift_notes(table: pd.DataFrame) -> list[str]:
    """What the rows found, in sentences.

    Args:
        table: as from `build_table`, of a plan with the columns of `DRIFT` and the labels `SHARDS` and `ALL_REDUCE`.
    """
    rows = [row for row in table.to_dict("records") if row["status"] == "finished" and row[SHARDS] != "1"]
    shared = [row for row in rows if row[ALL_REDUCE]]
    alone = [row for row in rows if not row[ALL_REDUCE]]
    notes = []
    if shared:
        most = [max(row[f"apart_{name}"] for row in shared) for name in OF_SHARDS]
        notes.append(
            f"With the all-reduce the shards of a trial lay at most {most[0]:.2g} apart in T_now and {most[1]:.2g} in "
            f"beta_now, mean over the updates."
        )
    if alone:
        ranges = [_range(alone, f"apart_{name}", name) for name in OF_SHARDS]
        notes.append(f"Without it they lay apart by {' and by '.join(ranges)}.")
    if alone:
        means = [f"{_mean(alone, f'from_baseline_{name}'):.4f} in {name}" for name in OF_SHARDS]
        notes.append(f"From the row with the all-reduce they lay, mean over the rows, {' and '.join(means)}.")
    if shared:
        means = [f"{_mean(shared, f'from_baseline_{name}'):.4f} in {name}" for name in OF_SHARDS]
        notes.append(
            f"The rows with the all-reduce lay {' and '.join(means)} from one shard, since another number of shards "
            "draws other RoIs, and so trains other weights."
        )
    return [*notes, *_difference_of_the_all_reduce(table)]


def _difference_of_the_all_reduce(table: pd.DataFrame) -> list[str]:
    """AP with minus AP without the all-reduce, mean over the pairs of rows that differ in nothing else.

    Pairs share their seeds and so are not independent: the interval is over the seeds that all pairs have. A row that
    still lacks a planned seed is left out, with its counterpart.
    """
    rows: dict[bool, dict[tuple[str, ...], Mapping[int, float]]] = {True: {}, False: {}}
    first, last = list(table.columns).index("name"), list(table.columns).index("source")
    labels = [name for name in table.columns[first + 1 : last] if name != ALL_REDUCE]
    for row in table.to_dict("records"):
        if row["n"] == row["n_planned"] and row[SHARDS] != "1":
            rows[bool(row[ALL_REDUCE])][tuple(row[name] for name in labels)] = row["AP_by_seed"]
    pairs = [key for key in rows[True] if key in rows[False]]
    if not pairs:
        return []
    by_pair = {key: pd.Series(rows[True][key]) - pd.Series(rows[False][key]) for key in pairs}
    by_seed = pd.DataFrame(by_pair).dropna().mean(axis=1)
    if by_seed.empty:
        return []
    difference = paired_difference(by_seed.to_dict(), dict.fromkeys(by_seed.index, 0.0))
    # Adding zero turns a rounded -0.0 into +0.0.
    mean, low, high = (round(value, 1) + 0.0 for value in (difference.mean, difference.low, difference.high))
    interval = "" if difference.n < 2 else f" [{low:+.1f}, {high:+.1f}]"
    return [
        f"AP with the all-reduce minus AP without it: {mean:+.1f}{interval}, mean over the pairs of rows that differ "
        f"in nothing else ({len(pairs)}), with the interval over the seeds ({difference.n})."
    ]


def _baselines(plan: pd.DataFrame) -> dict[str, str | None]:
    """The trial that each trial of the plan is held against: its row's baseline with the same seed."""
    lines = plan.dropna(subset=["trial_id"]).to_dict("records")
    by_place = {(line["row"], line["seed"]): line["trial_id"] for line in lines}
    return {line["trial_id"]: by_place.get((line["baseline_row"], line["seed"])) for line in lines}


def _apart(values: pd.DataFrame) -> float:
    return float((values.max(axis=1) - values.min(axis=1)).mean())


def _distance(values: pd.DataFrame, baseline: pd.DataFrame) -> float:
    steps = values.index.intersection(baseline.index)
    if steps.empty:
        return float("nan")
    return float(values.loc[steps].sub(baseline.loc[steps, 0], axis=0).abs().to_numpy().mean())


def _range(rows: list[dict[Any, Any]], column: str, name: str) -> str:
    known = [row for row in rows if row[column] == row[column]]
    if not known:
        return f"what was not recorded in {name}"
    least, most = (chosen(known, key=lambda row: row[column]) for chosen in (min, max))
    return f"{least[column]:.4f} ({_place(least)}) to {most[column]:.4f} ({_place(most)}) in {name}"


def _place(row: Mapping[Any, Any]) -> str:
    return str(row["name"])


def _mean(rows: list[dict[Any, Any]], column: str) -> float:
    return float(np.nanmean([row[column] for row in rows]))
