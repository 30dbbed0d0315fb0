"""A result table as numbers: what this store's trials measured, and the paper's numbers in columns of their own."""

import math
import statistics
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa

from dynrcnn_ray.results.labels import row_names
from dynrcnn_ray.results.schemas import TRIALS, optional, required, versioned
from dynrcnn_ray.results.store import to_parquet_bytes

COURSE = ("final_T_now", "final_beta_now", "final_positives", "kept_iou_updates", "kept_beta_updates")
"""Columns of the trials that tell how Algorithm 1 went: means over the finished seeds."""


def label_columns(plan: pd.DataFrame) -> list[str]:
    """Names of the label columns, in the plan's order."""
    return list(dict.fromkeys(name for labels in plan["labels"] for name in dict(labels)))


def metric_columns(plan: pd.DataFrame) -> list[str]:
    """Names of the metrics, in the plan's order."""
    return list(plan["metrics"].iloc[0])


def build_table(plan: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Bring together a plan and its trials: one row a setting, in the order of the plan's `row`.

    Args:
        plan: rows as in `schemas.PLAN`, of one experiment; not empty.
        trials: rows as in `schemas.TRIALS`; trials that the plan does not name are left out.

    Returns:
        Columns `row`; `name`, the row's name; one a label; `source` ("measured", or "reported" for a row that names no
        trial); `status` ("finished" if any seed has finished, else "failed" if any has failed, else "missing"; or
        "reported"); `n` (finished seeds) and `n_planned`. For each metric M, in percent: `M` (mean over the finished
        seeds), `M_std` (sample standard deviation, null for fewer than two), `M_paper`, `M_minus_paper`. Then `COURSE`,
        and if the plan has a baseline, `delta_AP` and `delta_AP_paper`: AP minus the baseline's AP of the same source.

    Raises:
        KeyError: the plan names a metric that trials do not have.
    """
    metrics = metric_columns(plan)
    results = {trial["trial_id"]: trial for trial in trials.to_dict("records")}
    settings: dict[int, list[dict[Any, Any]]] = {}
    for line in sorted(plan.to_dict("records"), key=lambda line: line["row"]):
        settings.setdefault(line["row"], []).append(line)

    names = row_names([dict(lines[0]["labels"]) for lines in settings.values()])
    rows = [
        _table_row(name, lines, results, label_columns(plan), metrics)
        for name, lines in zip(names, settings.values(), strict=True)
    ]
    if "AP" in metrics and plan["baseline_row"].notna().to_numpy().any():
        for name in ("AP", "AP_paper"):
            by_row = {row["row"]: row[name] for row in rows}
            for row in rows:
                baseline_row = settings[row["row"]][0]["baseline_row"]
                row[f"delta_{name}"] = row[name] - by_row.get(baseline_row, math.nan)
    return pd.DataFrame(rows)


def table_to_parquet_bytes(table: pd.DataFrame, plan: pd.DataFrame) -> bytes:
    """The table of `build_table` as a Parquet file's content, with units and schema version in its metadata."""
    fields = [required("row", pa.int32(), "1")]
    fields += [required(name, pa.string(), "text") for name in ["name", *label_columns(plan), "source", "status"]]
    fields += [required(name, pa.int32(), "seeds") for name in ("n", "n_planned")]
    for metric in metric_columns(plan):
        names = (metric, f"{metric}_std", f"{metric}_paper", f"{metric}_minus_paper")
        unit = TRIALS.field(metric).metadata[b"unit"].decode()
        fields += [optional(name, pa.float64(), unit) for name in names]
    fields += [optional(name, pa.float64(), TRIALS.field(name).metadata[b"unit"].decode()) for name in COURSE]
    if "delta_AP" in table:
        fields += [optional(name, pa.float64(), "percent") for name in ("delta_AP", "delta_AP_paper")]
    return to_parquet_bytes(pa.Table.from_pandas(table, schema=versioned(fields), preserve_index=False))


def _table_row(
    name: str,
    lines: list[dict[Any, Any]],
    results: Mapping[str, Mapping[Any, Any]],
    columns: list[str],
    metrics: list[str],
) -> dict[str, Any]:
    labels: Mapping[str, str] = dict(lines[0]["labels"])
    reported: Mapping[str, float] = dict(lines[0]["reported"])
    planned = [line["trial_id"] for line in lines if isinstance(line["trial_id"], str)]
    known = [results[trial_id] for trial_id in planned if trial_id in results]
    finished = [trial for trial in known if trial["status"] == "finished"]

    row: dict[str, Any] = {"row": lines[0]["row"]}
    row["name"] = name
    row |= {column: labels.get(column, "") for column in columns}
    row["source"] = "measured" if planned else "reported"
    row["status"] = "finished" if finished else "failed" if known else "missing" if planned else "reported"
    row["n"] = len(finished)
    row["n_planned"] = len(planned)
    for metric in metrics:
        values = [trial[metric] for trial in finished if not math.isnan(trial[metric])]
        mean = _mean_of_known(values)
        paper = reported.get(metric, math.nan)
        row[metric] = mean
        row[f"{metric}_std"] = statistics.stdev(values) if len(values) > 1 else math.nan
        row[f"{metric}_paper"] = paper
        row[f"{metric}_minus_paper"] = mean - paper
    for column in COURSE:
        row[column] = _mean_of_known([trial[column] for trial in finished])
    return row


def _mean_of_known(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return statistics.fmean(known) if known else math.nan
