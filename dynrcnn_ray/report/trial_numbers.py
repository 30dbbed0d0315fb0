"""Numbers of single trials, which findings compare: metrics, early and late values of the course, timed speeds.

Besides the metrics of `schemas.TRIALS` a trial has, where it has recorded them,

- `early X` and `late X`: the mean of the field X of `schemas.DYNAMICS` over the first and the last fifth of the logged
  steps;
- `early sigma of dx` (dy, dw, dh): the standard deviation of the offsets of the proposals at IoU 0.5, at the first
  recorded step and without the appended ground truths; `late sigma of dx` at the last step, `late sigma of dx at IoU
  0.6` the same above that IoU.
"""

import dataclasses
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from dynrcnn_ray.statistics.estimates import mean
from dynrcnn_ray.store.metrics import MASK_METRICS, METRICS
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.schemas import DYNAMICS, PROPOSALS, TRIALS

OFFSETS = ("dx", "dy", "dw", "dh")
_COURSE = re.compile("(early|late) (?!sigma of)")
_OFFSETS = re.compile("(early|late) sigma of ")
_FEWEST_ROUNDS = 8
"""Fewer rounds say nothing of how far off their median may be."""
_PART = 5
"""Early and late are so much of the logged steps: a fifth."""


def unit_of(schema: pa.Schema, name: str) -> str:
    """The unit of a field of the store."""
    return schema.field(name).metadata[b"unit"].decode()


def units_of_numbers() -> dict[str, str]:
    """All numbers that a single trial can have, each with its unit, as in the schemas."""
    metrics = {name: unit_of(TRIALS, name) for name in (*METRICS, *MASK_METRICS)}
    course = {
        f"{when} {name}": unit_of(DYNAMICS, name) for when in ("early", "late") for name in _fields_of_the_course()
    }
    offsets = {
        text.format(f"sigma of {name}"): unit_of(PROPOSALS, name)
        for text in ("early {}", "late {}", "late {} at IoU 0.6")
        for name in OFFSETS
    }
    return metrics | course | offsets


def _fields_of_the_course() -> list[str]:
    """The fields with one number a step."""
    return [
        field.name for field in DYNAMICS if field.name not in ("trial_id", "step") and not pa.types.is_list(field.type)
    ]


@dataclass(frozen=True)
class SpeedOfModel:
    """Images per second: the median over so many rounds, and the quartiles."""

    median: float
    lower: float
    upper: float
    rounds: int

    @property
    def relative_error(self) -> float:
        """The standard error of the median, as a share of it (McGill, Tukey and Larsen 1978). NaN of a few rounds."""
        if self.rounds < _FEWEST_ROUNDS:
            return math.nan
        return 1.25 * (self.upper - self.lower) / (1.35 * math.sqrt(self.rounds)) / self.median


@dataclass(frozen=True)
class NumbersOfRow:
    """What a row of an experiment has measured.

    Attributes:
        trials: of each seed that has finished, its numbers by name.
        speeds: of a row of speeds: by phase, `training` or `inference`.
        scale: at which it ran; empty if the store does not know the row.
        missing: the planned seeds that have not finished.
    """

    trials: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    speeds: Mapping[str, SpeedOfModel] = field(default_factory=dict)
    scale: str = ""
    missing: frozenset[int] = frozenset()


def read_numbers(
    store: ResultStore,
    rows: Mapping[str, Mapping[int, Mapping[str, float]]],
    measures: Mapping[str, Collection[str]] | None = None,
    trials: pd.DataFrame | None = None,
) -> dict[str, dict[int, NumbersOfRow]]:
    """The numbers of rows of experiments, whose trials are those that the store's plans name.

    So they are found whatever configuration the trials have been run with.

    Args:
        store: where to read.
        rows: by experiment and row, the paper's numbers by metric. A plan's row with other ones is another row, of
            another release: it counts as not measured.
        measures: by experiment, the numbers that are wanted; the course and the offsets of other trials are not read.
        trials: rows as in `schemas.TRIALS` of all trials, where they have been read before.

    Raises:
        StoreError: the store cannot be read.
    """
    found = {name: {row: NumbersOfRow() for row in of_experiment} for name, of_experiment in rows.items()}
    plans = {name: plan for name in rows if (plan := store.plan(name)) is not None and len(plan)}
    lines = [
        line
        for name, plan in plans.items()
        for line in plan.dropna(subset=["trial_id"]).to_dict("records")
        if line["row"] in rows[name] and dict(line["reported"]) == rows[name][line["row"]]
    ]
    for name, of_experiment in numbers_of_lines(store, lines, measures, trials).items():
        found[name] |= of_experiment
    return found


def numbers_of_lines(
    store: ResultStore,
    lines: Sequence[Mapping[Any, Any]],
    measures: Mapping[str, Collection[str]] | None = None,
    trials: pd.DataFrame | None = None,
) -> dict[str, dict[int, NumbersOfRow]]:
    """The numbers of the trials that lines of plans name, by experiment and row.

    Args:
        store: where to read.
        lines: as in `schemas.PLAN`, each with a trial.
        measures: as `read_numbers` takes them.
        trials: as `read_numbers` takes them.

    Raises:
        StoreError: the store cannot be read.
    """
    numbers = _numbers_of_trials(store, lines, measures or {}, trials)
    found: dict[str, dict[int, NumbersOfRow]] = {}
    for line in lines:
        rows = found.setdefault(line["experiment"], {})
        row, seed = rows.get(line["row"], NumbersOfRow()), int(line["seed"])
        if line["trial_id"] in numbers:
            changes = {"trials": {**row.trials, seed: numbers[line["trial_id"]]}, "scale": line["scale"]}
        else:
            changes = {"missing": row.missing | {seed}}
        rows[line["row"]] = dataclasses.replace(row, **changes)
    return found


def course_numbers(dynamics: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Early and late values of every trial, by its id, of the fields with one number a row.

    A trial with one logged step has none.

    Args:
        dynamics: rows as in `schemas.DYNAMICS`.
    """
    numbers: dict[str, dict[str, float]] = {}
    lists = {field.name for field in DYNAMICS if pa.types.is_list(field.type)}
    columns = [name for name in dynamics.columns if name not in ("trial_id", "step", *lists)]
    for trial_id, course in dynamics.sort_values("step").groupby("trial_id"):
        part = math.ceil(len(course) / _PART)
        if len(course) < 2:
            continue
        early, late = course.head(part), course.tail(part)
        numbers[str(trial_id)] = {f"early {name}": mean(early[name].astype(float)) for name in columns} | {
            f"late {name}": mean(late[name].astype(float)) for name in columns
        }
    return numbers


def offset_numbers(proposals: pd.DataFrame) -> dict[str, dict[str, float]]:
    """How far the positives' offsets spread early and late, of every trial, by its id.

    Args:
        proposals: rows as in `schemas.PROPOSALS`. A trial with one recorded step has no numbers.
    """
    numbers: dict[str, dict[str, float]] = {}
    for trial_id, found in proposals.loc[~proposals["is_ground_truth"], :].groupby("trial_id"):
        steps = found["step"].to_numpy()
        first, last = steps.min(), steps.max()
        if first == last:
            continue
        panels = {"early {}": (first, 0.5), "late {}": (last, 0.5), "late {} at IoU 0.6": (last, 0.6)}
        numbers[str(trial_id)] = {
            text.format(f"sigma of {name}"): _sigma(found.loc[(steps == step) & (found["max_iou"] >= iou), name])
            for text, (step, iou) in panels.items()
            for name in OFFSETS
        }
    return numbers


def _numbers_of_trials(
    store: ResultStore,
    lines: Iterable[Mapping[Any, Any]],
    measures: Mapping[str, Collection[str]],
    trials: pd.DataFrame | None,
) -> dict[str, dict[str, float]]:
    """Of all finished trials of a plan their metrics; where it is asked for also their course, and their offsets."""
    ids: dict[str, set[str]] = {}
    for line in lines:
        ids.setdefault(line["experiment"], set()).add(line["trial_id"])
    metrics = [name for name in TRIALS.names if TRIALS.field(name).metadata[b"unit"] == b"percent"]
    wanted = set().union(*ids.values())
    if trials is None:
        trials = store.trials(wanted, ["trial_id", "status", *metrics])
    finished = trials.loc[trials["trial_id"].isin(list(wanted)) & (trials["status"] == "finished"), :]
    shown = [name for name in metrics if name in finished.columns]
    numbers = {row["trial_id"]: {name: row[name] for name in shown} for row in finished.to_dict("records")}

    def trials_with(kind: re.Pattern[str]) -> set[str]:
        wanted_by = [name for name in ids if any(kind.match(measure) for measure in measures.get(name, ()))]
        return set().union(*(ids[name] for name in wanted_by)).intersection(numbers)

    courses = course_numbers(store.dynamics(trials_with(_COURSE)))
    offsets = offset_numbers(store.proposals(trials_with(_OFFSETS)))
    return {trial_id: row | courses.get(trial_id, {}) | offsets.get(trial_id, {}) for trial_id, row in numbers.items()}


def numbers_of_speed(line: Mapping[str, Any]) -> NumbersOfRow:
    """The numbers of a row of `schemas.SPEED`."""
    speeds = {
        phase: SpeedOfModel(
            line[f"{phase}_images_per_second"],
            line[f"{phase}_lower_quartile"],
            line[f"{phase}_upper_quartile"],
            line["rounds"],
        )
        for phase in ("training", "inference")
    }
    return NumbersOfRow(speeds=speeds, scale=line["scale"])


def _sigma(offsets: pd.Series) -> float:
    return float(np.std(offsets.to_numpy())) if len(offsets) > 1 else math.nan
