"""The result of a table, in one sentence."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

_METRICS = ("AP", "AP90")


def conclusion(table: pd.DataFrame) -> str:
    """The difference to the baseline of the row that gains most in the paper: AP and AP90, here and there.

    Args:
        table: as from `build_table`.

    Returns:
        "DLA + DSL: AP +3.3, AP90 +9.5 (paper +1.9, +5.5)", with 95 % intervals over several seeds; empty where the
        paper's rows gain nothing, a column is missing or the row has not finished.
    """
    columns = [f"delta_{metric}" for metric in _METRICS]
    if not set(columns) <= set(table.columns):
        return ""
    row: Mapping[Any, Any] = max(table.to_dict("records"), key=lambda row: _known(row["delta_AP_paper"]))
    if _known(row["delta_AP_paper"]) <= 0 or any(math.isnan(row[column]) for column in columns):
        return ""
    here = ", ".join(f"{metric} {_difference(row, f'delta_{metric}')}" for metric in _METRICS)
    there = ", ".join(f"{row[f'{column}_paper']:+.1f}" for column in columns)
    seeds = f", {row['delta_n']} seeds" if row["delta_n"] > 1 else ""
    return f"{row['name']}: {here}{seeds} (paper {there})"


def _known(number: float) -> float:
    return -math.inf if math.isnan(number) else number


def _difference(row: Mapping[Any, Any], column: str) -> str:
    low, high = row[f"{column}_low"], row[f"{column}_high"]
    interval = "" if math.isnan(low) else f" [{low:+.1f}, {high:+.1f}]"
    return f"{row[column]:+.1f}{interval}"
