"""The sentences below a result table that say where its numbers come from and what its signs mean."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from dynrcnn_ray.report.drift import drift_notes
from dynrcnn_ray.report.tables import baseline_rows, drift_columns, metric_columns
from dynrcnn_ray.store.metrics import METRICS

ZERO_MARK = "≈0"
"""Stands behind a difference that its interval cannot tell from zero."""


def table_notes(table: pd.DataFrame, plan: pd.DataFrame) -> list[str]:
    """Sentences that hold for this table.

    Args:
        table: as from `build_table`.
        plan: the plan that the table was built from.
    """
    metrics = metric_columns(plan)
    notes = []
    if table[[f"{metric}_paper" for metric in metrics]].notna().to_numpy().any():
        notes.append(_source_note(table, plan))
    kinds = dict.fromkeys(metric[:2] for metric in metrics if metric in METRICS)
    if kinds:
        notes.append(f"{' and '.join(kinds)} in percent.")
    if max(table["n"]) > 1:
        notes.append("± is the sample standard deviation over the n seeds.")
    if drift_columns(plan):
        notes += drift_notes(table)
    if "delta_n" in table:
        notes += _difference_notes(table, plan)
    return notes


def _source_note(table: pd.DataFrame, plan: pd.DataFrame) -> str:
    splits = " and ".join(dict.fromkeys(plan["paper_split"].dropna()))
    note = f"Lines named paper are the paper's own numbers, on COCO{f' {splits}' if splits else ''}"
    if "measured" not in set(table["source"]):
        return f"{note}."
    scales = ", ".join(dict.fromkeys(plan["scale"]))
    return (
        f"{note}; the other lines were measured here, at scale {scales}. "
        "Compare the differences between rows with the paper's."
    )


def _difference_notes(table: pd.DataFrame, plan: pd.DataFrame) -> list[str]:
    baselines = baseline_rows(plan)
    compared = [row for row in table.to_dict("records") if baselines.get(row["row"], row["row"]) != row["row"]]
    notes = []
    if any(row["delta_n"] > 1 for row in compared):
        notes.append(
            "Differences are means over the seeds that a row and its baseline have both finished; in brackets their "
            "95 % interval by the paired t-test (scipy.stats.ttest_rel)."
        )
        notes.append(
            f"{ZERO_MARK}: the interval, before rounding, holds zero: it cannot tell the difference from zero."
        )
        notes.append(
            "By chance alone, one interval in twenty misses the true difference; more do if seeds are added until it "
            "looks clear. Claims are judged by findings, whose intervals allow for that."
        )
        if any(_has_point_interval(row, metric) for row in compared for metric in metric_columns(plan)):
            notes.append("An interval without width: the differences of all seeds were the same.")
    if any(row["delta_n"] == 1 for row in compared):
        notes.append("A difference over one seed has no interval: it may be chance.")
    return notes


def _has_point_interval(row: Mapping[Any, Any], metric: str) -> bool:
    return row[f"delta_{metric}_low"] == row[f"delta_{metric}_high"]
