"""Details of every trial: where it belongs, how it went, on what it ran, its configuration."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dynrcnn_ray.report.html.charts import Chart, line_chart
from dynrcnn_ray.store.metrics import METRICS

MOST_WITH_DETAILS = 200
"""With more trials than this, each is a line of a table and nothing more."""
COMPACT = ("trial_id", "experiment", "setting", "seed", "status", "AP", "AP90", "wall_seconds")
"""The fields of `schemas.TRIALS` in such a line."""
_SECONDS = ("startup_seconds", "train_seconds", "eval_seconds", "wall_seconds")


def compact_trials(trials: pd.DataFrame) -> list[list[str]]:
    """A line of `COMPACT` fields for each trial; rows as in `schemas.TRIALS`."""
    lines = _ordered(trials)[list(COMPACT)].itertuples(index=False)
    return [[_shown(value) for value in line] for line in lines]


def trials_in_detail(
    trials: pd.DataFrame, dynamics: pd.DataFrame, belongs_to: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """What `templates/trials.html` draws of each trial.

    Args:
        trials: rows as in `schemas.TRIALS`.
        dynamics: rows as in `schemas.DYNAMICS`.
        belongs_to: the rows of tables that each trial makes up.
    """
    courses = {trial_id: rows.sort_values("step") for trial_id, rows in dynamics.groupby("trial_id")}
    return [
        _details(row, courses.get(row["trial_id"]), belongs_to.get(row["trial_id"], ()))
        for row in _ordered(trials).to_dict("records")
    ]


def _ordered(trials: pd.DataFrame) -> pd.DataFrame:
    return trials.sort_values(["experiment", "setting", "seed", "trial_id"])


def _details(row: dict[Any, Any], course: pd.DataFrame | None, belongs_to: Sequence[str]) -> dict[str, Any]:
    finished, running = row["status"] == "finished", row["status"] == "running"
    written_at = f"{row['finished_at']:%Y-%m-%d %H:%M} UTC"
    state = f"AP {_shown(row['AP'])}" if finished else row["status"]
    if row["status"] == "stalled":
        state = f"stalled since {written_at}, checkpoint at step {_step(row)} of {_shown(row['steps'])}"
    if running:
        state = f"running, checkpoint at step {_step(row)} of {_shown(row['steps'])}, written {written_at}"
    facts: dict[str, str] = {"rows": "; ".join(belongs_to) or "no table of this store"}
    if finished:
        facts["metrics"] = ", ".join(f"{name} {_shown(row[name])}" for name in METRICS)
    else:
        facts["last good step"] = _step(row)
        if row["status"] == "failed":
            facts["reason"] = str(row["error"])
    facts["times"] = ", ".join(f"{name.removesuffix('_seconds')} {_shown(row[name])} s" for name in _SECONDS)
    facts["speed"] = f"{_shown(row['train_images_per_second'])} images/s, workers: {_workers(row)}"
    facts["ran on"] = str(row["hardware"] or "unknown")
    facts["commit"] = str(row["git_commit"] or "unknown")
    facts["packages"] = ", ".join(f"{name} {version}" for name, version in (row["packages"] or {}).items())
    facts["last written at" if row["status"] in ("running", "stalled") else "finished at"] = written_at
    traceback = {"Traceback": row["traceback"]} if isinstance(row["traceback"], str) else {}
    return {
        "trial_id": row["trial_id"],
        "name": f"{row['setting']}, seed {row['seed']}",
        "status": row["status"],
        "state": state,
        "facts": facts,
        "charts": [] if course is None else _charts(course),
        "folded": {**traceback, "Configuration": row["config"]},
    }


def _step(row: dict[Any, Any]) -> str:
    """The step of the newest checkpoint; pandas makes a column with missing values one of floats."""
    step = row["last_good_step"]
    return "-" if pd.isna(step) else str(int(step))


def _workers(row: dict[Any, Any]) -> str:
    at_end = row["workers_at_end"]
    return f"{row['num_workers']}" + (
        "" if pd.isna(at_end) or at_end == row["num_workers"] else f", at the end {int(at_end)}"
    )


def _charts(course: pd.DataFrame) -> list[Chart]:
    steps = course["step"].tolist()
    levels = {f".{level}": course[f"positives_iou{level}0"].tolist() for level in (5, 6, 7, 8, 9)}
    charts = (
        line_chart("loss", steps, {"loss": course["loss"].tolist()}),
        line_chart("T_now (IoU)", steps, {"T_now": course["T_now"].tolist()}),
        line_chart("beta_now (normalised offset)", steps, {"beta_now": course["beta_now"].tolist()}),
        line_chart("sampled positives per image", steps, {"positives": course["positives"].tolist()}),
        line_chart("proposals per image, IoU from", steps, levels),
    )
    return [chart for chart in charts if chart]


def _shown(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
