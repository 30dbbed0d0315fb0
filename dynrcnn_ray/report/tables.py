"""A result table as numbers: what this store's trials measured, and the paper's numbers in columns of their own."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa

from dynrcnn_ray.report.drift_columns import DRIFT
from dynrcnn_ray.statistics.estimates import mean, paired_difference, sample_deviation
from dynrcnn_ray.statistics.power import detectable_effect, seeds_needed
from dynrcnn_ray.store.labels import NO_CELL, row_names
from dynrcnn_ray.store.parquet import to_parquet_bytes
from dynrcnn_ray.store.schemas import STATUSES, TRIALS, optional, required, versioned

_Setting = list[dict[Any, Any]]
"""The plan's lines of one row of the table: one a seed."""

COURSE = ("final_T_now", "final_beta_now", "final_positives", "kept_iou_updates", "kept_beta_updates")
"""Columns of the trials that tell how Algorithm 1 went: means over the finished seeds."""


def label_columns(plan: pd.DataFrame) -> list[str]:
    """Names of the label columns, in the plan's order."""
    return list(dict.fromkeys(name for labels in plan["labels"] for name in dict(labels)))


def metric_columns(plan: pd.DataFrame) -> list[str]:
    """Names of the metrics that trials have of themselves, in the plan's order."""
    return [name for name in plan["metrics"].iloc[0] if name not in DRIFT]


def drift_columns(plan: pd.DataFrame) -> list[str]:
    """Names of the plan's metrics that tell how far shards drift apart, in its order; most plans have none."""
    return [name for name in plan["metrics"].iloc[0] if name in DRIFT]


def trial_columns(plan: pd.DataFrame) -> list[str]:
    """The fields of `schemas.TRIALS` that `build_table` needs for a plan."""
    metrics = {f"{prefix}{name}" for prefix in {"", *plan["metric_prefix"].dropna()} for name in metric_columns(plan)}
    return [name for name in TRIALS.names if name in {"trial_id", "status", *COURSE, *metrics}]


def baseline_rows(plan: pd.DataFrame) -> dict[int, int]:
    """The row that each row's differences refer to, for the rows that have one. A baseline's is itself."""
    known = plan[plan["baseline_row"].notna()]
    return {int(row): int(baseline) for row, baseline in zip(known["row"], known["baseline_row"], strict=True)}


def build_table(plan: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Bring together a plan and its trials: one row a setting, in the order of the plan's `row`.

    Args:
        plan: rows as in `schemas.PLAN`, of one experiment; not empty.
        trials: rows as in `schemas.TRIALS`; trials that the plan does not name are left out. For a plan that asks for
            columns of `DRIFT`, as from `with_drift`.

    Returns:
        Columns `row`; `name`, the row's name; one a label; `source` ("measured", or "reported" for a row that names no
        trial); `status` ("finished" if any seed has finished, else "running" if any runs, else "stalled" if any was
        killed, else "failed" if any has failed, else "missing"; or "reported"); `n` (finished seeds) and `n_planned`.
        For each metric M, in percent: `M` (mean over the finished seeds), `M_std` (sample standard deviation, null for
        fewer than two), `M_paper`, `M_minus_paper`. Then `COURSE`, and for each column D of `DRIFT` that the plan asks
        for: `D` and `D_std`, with `AP_by_seed` for `drift_notes`, which no file has.

        If the plan has a baseline, also `delta_n`, the seeds that both the row and its baseline have finished, and for
        each metric M, in percent: `delta_M`, the mean over those seeds of the row's M minus the baseline's;
        `delta_M_low` and `delta_M_high`, its 95 % interval by the paired t-test, null for fewer than two seeds;
        `delta_M_paper`, the paper's M minus the paper's M of the baseline. From the spread of the seeds' differences,
        null for fewer than two seeds or equal differences: `delta_M_detectable`, the smallest true difference that so
        many seeds tell from zero with a power of 80 %, and `delta_M_seeds`, how many seeds the paper's difference would
        need for that.

    Raises:
        KeyError: the plan names a metric that trials do not have.
    """
    needed = [name for name in trials.columns if name in {*trial_columns(plan), *drift_columns(plan)}]
    results = {trial["trial_id"]: trial for trial in trials.loc[:, needed].to_dict("records")}
    settings: dict[int, _Setting] = {}
    for line in sorted(plan.to_dict("records"), key=lambda line: line["row"]):
        settings.setdefault(line["row"], []).append(line)

    names = row_names([dict(lines[0]["labels"]) for lines in settings.values()])
    baselines = baseline_rows(plan)
    rows: list[dict[str, Any]] = []
    for name, lines in zip(names, settings.values(), strict=True):
        row = _table_row(name, lines, results, plan)
        if baselines:
            baseline = settings.get(baselines.get(row["row"], -1), [])
            row |= _differences(lines, baseline, results, metric_columns(plan))
        rows.append(row)
    return pd.DataFrame(rows)


def table_to_parquet_bytes(table: pd.DataFrame, plan: pd.DataFrame) -> bytes:
    """The table of `build_table` as a Parquet file's content, with units and schema version in its metadata."""
    fields = [required("row", pa.int32(), "1")]
    fields += [required(name, pa.string(), "text") for name in ["name", *label_columns(plan), "source", "status"]]
    fields += [required(name, pa.int32(), "seeds") for name in ("n", "n_planned")]
    for metric in metric_columns(plan):
        fields += _percents(metric, f"{metric}_std", f"{metric}_paper", f"{metric}_minus_paper")
    fields += [optional(name, pa.float64(), TRIALS.field(name).metadata[b"unit"].decode()) for name in COURSE]
    for name in drift_columns(plan):
        fields += [optional(column, pa.float64(), DRIFT[name]) for column in (name, f"{name}_std")]
    if "delta_n" in table:
        fields.append(required("delta_n", pa.int32(), "seeds"))
        for metric in metric_columns(plan):
            delta = f"delta_{metric}"
            fields += _percents(delta, f"{delta}_low", f"{delta}_high", f"{delta}_paper", f"{delta}_detectable")
            fields.append(optional(f"{delta}_seeds", pa.float64(), "seeds"))
    relative = f"tables/{plan['experiment'].iloc[0]}.parquet"
    return to_parquet_bytes(pa.Table.from_pandas(table, schema=versioned(fields), preserve_index=False), relative)


def _percents(*names: str) -> list[pa.Field]:
    return [optional(name, pa.float64(), "percent") for name in names]


def _table_row(
    name: str, lines: _Setting, results: Mapping[str, Mapping[Any, Any]], plan: pd.DataFrame
) -> dict[str, Any]:
    labels: Mapping[str, str] = dict(lines[0]["labels"])
    planned = [line["trial_id"] for line in lines if isinstance(line["trial_id"], str)]
    known = {results[trial_id]["status"] for trial_id in planned if trial_id in results}
    finished = _finished(lines, results)

    row: dict[str, Any] = {"row": lines[0]["row"]}
    row["name"] = name
    row |= {column: labels.get(column, NO_CELL) for column in label_columns(plan)}
    row["source"] = "measured" if planned else "reported"
    row["status"] = next((state for state in STATUSES if state in known), "missing" if planned else "reported")
    row["n"] = len(finished)
    row["n_planned"] = len(planned)
    for metric in metric_columns(plan):
        values = _values(lines, finished, metric).values()
        paper = _reported(lines, metric)
        row[metric] = mean(values)
        row[f"{metric}_std"] = sample_deviation(values)
        row[f"{metric}_paper"] = paper
        row[f"{metric}_minus_paper"] = row[metric] - paper
    for column in COURSE:
        row[column] = mean(trial[column] for trial in finished.values())
    for column in drift_columns(plan):
        values = [trial[column] for trial in finished.values()]
        row |= {column: mean(values), f"{column}_std": sample_deviation(values)}
    if drift_columns(plan):
        row["AP_by_seed"] = _values(lines, finished, "AP")
    return row


def _differences(
    lines: _Setting, baseline: _Setting, results: Mapping[str, Mapping[Any, Any]], metrics: list[str]
) -> dict[str, Any]:
    """A row's differences to its baseline; an empty `baseline` gives nulls."""
    of_row, of_baseline = _finished(lines, results), _finished(baseline, results)
    columns: dict[str, Any] = {"delta_n": len(of_row.keys() & of_baseline.keys())}
    for metric in metrics:
        difference = paired_difference(_values(lines, of_row, metric), _values(baseline, of_baseline, metric))
        columns[f"delta_{metric}"] = difference.mean
        columns[f"delta_{metric}_low"] = difference.low
        columns[f"delta_{metric}_high"] = difference.high
        paper = _reported(lines, metric) - _reported(baseline, metric)
        columns[f"delta_{metric}_paper"] = paper
        effect = detectable_effect(difference.n) if difference.n > 1 else math.nan
        # That a few seeds differ equally does not mean that others would.
        spread = difference.deviation or math.nan
        columns[f"delta_{metric}_detectable"] = spread * effect
        columns[f"delta_{metric}_seeds"] = seeds_needed(paper, spread)
    return columns


def _finished(lines: _Setting, results: Mapping[str, Mapping[Any, Any]]) -> dict[int, Mapping[Any, Any]]:
    """The finished trials of a row, by seed."""
    trials = {line["seed"]: results[line["trial_id"]] for line in lines if line["trial_id"] in results}
    return {int(seed): trial for seed, trial in trials.items() if trial["status"] == "finished"}


def _values(lines: _Setting, finished: Mapping[int, Mapping[Any, Any]], metric: str) -> dict[int, float]:
    """What the finished trials of a row measured, by seed; of the masks if the row's `metric_prefix` says so."""
    if not lines:
        return {}
    prefix = lines[0]["metric_prefix"]
    name = f"{prefix}{metric}" if isinstance(prefix, str) else metric
    return {seed: trial[name] for seed, trial in finished.items()}


def _reported(lines: _Setting, metric: str) -> float:
    """The paper's number; NaN if it gives none."""
    number = dict(lines[0]["reported"]).get(metric) if lines else None
    return math.nan if number is None else number
