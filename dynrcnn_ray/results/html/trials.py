"""Details of every trial: where it belongs, how it went, on what it ran, its configuration."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from dynrcnn_ray.results.html.charts import line_chart
from dynrcnn_ray.results.schemas import METRICS

MOST_WITH_DETAILS = 200
"""With more trials than this, each is a line of a table and nothing more."""
COMPACT = ("trial_id", "experiment", "setting", "seed", "status", "AP", "AP90", "wall_seconds")
"""The fields of `schemas.TRIALS` in such a line."""
_SECONDS = ("startup_seconds", "train_seconds", "eval_seconds", "wall_seconds")


def trials_html(trials: pd.DataFrame, dynamics: pd.DataFrame, belongs_to: Mapping[str, Sequence[str]]) -> str:
    """All trials, each folded; a table alone for very many.

    Args:
        trials: rows as in `schemas.TRIALS`; `COMPACT` is enough for very many trials.
        dynamics: rows as in `schemas.DYNAMICS`; not needed for very many trials.
        belongs_to: the rows of tables that each trial makes up.
    """
    ordered = trials.sort_values(["experiment", "setting", "seed", "trial_id"])
    if len(ordered) > MOST_WITH_DETAILS:
        note = f'<p class="soft">{len(ordered)} trials: only their numbers are shown here.</p>'
        return note + _compact(ordered)
    courses = {trial_id: rows.sort_values("step") for trial_id, rows in dynamics.groupby("trial_id")}
    return "\n".join(
        _details(row, courses.get(row["trial_id"]), belongs_to.get(row["trial_id"], ()))
        for row in ordered.to_dict("records")
    )


def _compact(trials: pd.DataFrame) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in COMPACT)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(_shown(value))}</td>" for value in row) + "</tr>"
        for row in trials[list(COMPACT)].itertuples(index=False)
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _details(row: dict[Any, Any], course: pd.DataFrame | None, belongs_to: Sequence[str]) -> str:
    finished, running = row["status"] == "finished", row["status"] == "running"
    written_at = f"{row['finished_at']:%Y-%m-%d %H:%M} UTC"
    state = f"AP {_shown(row['AP'])}" if finished else f'<span class="failed">{escape(row["status"])}</span>'
    if running:
        state = f"running, checkpoint at step {_step(row)} of {_shown(row['steps'])}, written {written_at}"
    summary = f"{escape(row['setting'])}, seed {row['seed']} · {state} · <code>{escape(row['trial_id'])}</code>"
    facts: dict[str, str] = {"rows": "; ".join(belongs_to) or "no table of this store"}
    if finished:
        facts["metrics"] = ", ".join(f"{name} {_shown(row[name])}" for name in METRICS)
    else:
        facts["last good step"] = _step(row)
        if not running:
            facts["reason"] = str(row["error"])
    facts["times"] = ", ".join(f"{name.removesuffix('_seconds')} {_shown(row[name])} s" for name in _SECONDS)
    facts["speed"] = f"{_shown(row['train_images_per_second'])} images/s, workers: {_workers(row)}"
    facts["ran on"] = str(row["hardware"] or "unknown")
    facts["commit"] = str(row["git_commit"] or "unknown")
    facts["packages"] = ", ".join(f"{name} {version}" for name, version in (row["packages"] or {}).items())
    facts["last written at" if running else "finished at"] = written_at
    table = "".join(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in facts.items())
    charts = "" if course is None else f'<div class="charts">{_charts(course)}</div>'
    trace = _folded("Traceback", row["traceback"]) if isinstance(row["traceback"], str) else ""
    config = _folded("Configuration", row["config"])
    return (
        f'<details class="trial" id="trial-{escape(row["trial_id"])}"><summary>{summary}</summary>'
        f'<table class="facts">{table}</table>{charts}{trace}{config}</details>'
    )


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary><pre>{escape(text)}</pre></details>"


def _step(row: dict[Any, Any]) -> str:
    """The step of the newest checkpoint; a column in which some have none holds floats."""
    step = row["last_good_step"]
    return "-" if pd.isna(step) else str(int(step))


def _workers(row: dict[Any, Any]) -> str:
    at_end = row["workers_at_end"]
    return f"{row['num_workers']}" + (
        "" if pd.isna(at_end) or at_end == row["num_workers"] else f", at the end {int(at_end)}"
    )


def _charts(course: pd.DataFrame) -> str:
    steps = course["step"].tolist()
    levels = {f".{level}": course[f"positives_iou{level}0"].tolist() for level in (5, 6, 7, 8, 9)}
    return "".join(
        [
            line_chart("loss", steps, {"loss": course["loss"].tolist()}),
            line_chart("T_now (IoU)", steps, {"T_now": course["T_now"].tolist()}),
            line_chart("beta_now (normalised offset)", steps, {"beta_now": course["beta_now"].tolist()}),
            line_chart("sampled positives per image", steps, {"positives": course["positives"].tolist()}),
            line_chart("proposals per image, IoU from", steps, levels),
        ]
    )


def _shown(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
