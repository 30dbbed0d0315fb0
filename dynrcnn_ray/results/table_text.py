"""A result table for people: Markdown, and aligned text for a terminal.

Two lines a setting: what was measured here and, right below it, the paper's numbers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dynrcnn_ray.results.schemas import METRICS
from dynrcnn_ray.results.tables import label_columns, metric_columns

_NOTHING = "-"
_DELTA = "ΔAP"
_SPREAD = " ± "
_COURSE_TITLE = (
    "Algorithm 1 after the last step (where DLA or DSL is off, T_now or beta_now was only recorded); "
    "how many updates kept the old value because there was nothing to measure:"
)


def table_to_markdown(table: pd.DataFrame, plan: pd.DataFrame) -> str:
    """The table of `build_table` as Markdown, with title and caption. It reads well as plain text, too."""
    caption = [_run(plan, code="`"), " ".join(_notes(table, plan))]
    parts = [f"**{_title(plan)}**", _markdown(_columns(table, plan)), *caption]
    if course := _course_columns(table):
        parts += [_COURSE_TITLE, _markdown(course)]
    return "\n\n".join(parts) + "\n"


def table_to_text(table: pd.DataFrame, plan: pd.DataFrame) -> str:
    """The table of `build_table` for a terminal: the Markdown's content, aligned and without its marks."""
    parts = [_title(plan), "", *_text(_columns(table, plan)), _run(plan), *_notes(table, plan)]
    if course := _course_columns(table):
        parts += ["", _COURSE_TITLE, "", *_text(course)]
    return "\n".join(parts) + "\n"


def simple_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of ready cells: the first column is text, the others are numbers."""
    first, *others = zip(*rows, strict=True)
    columns = [_text_column(header[0], list(first))]
    columns += [_number_column(title, list(cells)) for title, cells in zip(header[1:], others, strict=True)]
    return _markdown(columns)


@dataclass(frozen=True)
class _Column:
    """Cells of one width; the first is the header."""

    cells: list[str]
    is_left_aligned: bool

    @property
    def markdown_rule(self) -> str:
        dashes = "-" * (len(self.cells[0]) - 1)
        return f":{dashes}" if self.is_left_aligned else f"{dashes}:"


def _markdown(columns: list[_Column]) -> str:
    header, *body = ["| " + " | ".join(line) + " |" for line in _lines(columns)]
    rule = "| " + " | ".join(column.markdown_rule for column in columns) + " |"
    return "\n".join([header, rule, *body])


def _text(columns: list[_Column]) -> list[str]:
    header, *body = ["  ".join(line).rstrip() for line in _lines(columns)]
    rule = "─" * max(len(line) for line in [header, *body])
    return [header, rule, *body, rule]


def _lines(columns: list[_Column]) -> list[tuple[str, ...]]:
    return list(zip(*(column.cells for column in columns), strict=True))


def _columns(table: pd.DataFrame, plan: pd.DataFrame) -> list[_Column]:
    labels, metrics = label_columns(plan), metric_columns(plan)
    numbers = list(metrics)
    if "delta_AP" in table:
        numbers.insert(metrics.index("AP") + 1, _DELTA)

    baselines = dict(zip(plan["row"], plan["baseline_row"], strict=True))
    lines: list[dict[str, str]] = []
    for row in table.to_dict("records"):
        of_setting: list[dict[str, str]] = []
        is_baseline = row["row"] == baselines[row["row"]]
        if row["source"] == "measured":
            of_setting.append(
                {"": _measured_name(row), "n": _seeds(row), **_numbers(row, metrics, "", is_baseline=is_baseline)}
            )
        if not all(math.isnan(row[f"{metric}_paper"]) for metric in metrics):
            of_setting.append({"": "paper", **_numbers(row, metrics, "_paper", is_baseline=is_baseline)})
        if of_setting:
            of_setting[0] |= {name: row[name] for name in labels}
        lines += of_setting

    texts = [_text_column(name, [line.get(name, "") for line in lines]) for name in [*labels, "", "n"]]
    return texts + [_number_column(name, [line.get(name, "") for line in lines]) for name in numbers]


def _course_columns(table: pd.DataFrame) -> list[_Column]:
    """Where Algorithm 1 stood after the last step, a line for each row that has finished; none if none has."""
    rows = [row for row in table.to_dict("records") if row["n"]]
    columns = {"T_now": "final_T_now", "beta_now": "final_beta_now", "positives/image": "final_positives"}
    kept = {"T_now kept": "kept_iou_updates", "beta_now kept": "kept_beta_updates"}
    if not rows or all(math.isnan(row["final_T_now"]) for row in rows):
        return []
    return [
        _text_column("", [row["name"] for row in rows]),
        *[_number_column(title, [f"{row[name]:.3g}" for row in rows]) for title, name in columns.items()],
        *[_number_column(title, [f"{row[name]:.0f}" for row in rows]) for title, name in kept.items()],
    ]


def _measured_name(row: Mapping[Any, Any]) -> str:
    return {"finished": "measured", "failed": "failed", "missing": "not run yet"}[row["status"]]


def _seeds(row: Mapping[Any, Any]) -> str:
    return str(row["n"]) if row["n"] == row["n_planned"] else f"{row['n']} of {row['n_planned']}"


def _numbers(row: Mapping[Any, Any], metrics: list[str], source: str, *, is_baseline: bool) -> dict[str, str]:
    """One line's number cells; `source` is the columns' ending: nothing for measured, "_paper" for the paper's."""
    cells = {metric: _number(row[f"{metric}{source}"]) for metric in metrics}
    if not source:
        spreads = {metric: row[f"{metric}_std"] for metric in metrics}
        cells |= {name: f"{cells[name]}{_SPREAD}{std:.1f}" for name, std in spreads.items() if not math.isnan(std)}
    delta = math.nan if is_baseline else row.get(f"delta_AP{source}", math.nan)
    # Adding zero turns a rounded -0.0 into +0.0.
    return cells | {_DELTA: _NOTHING if math.isnan(delta) else f"{round(delta, 1) + 0.0:+.1f}"}


def _number(value: float) -> str:
    return _NOTHING if math.isnan(value) else f"{value:.1f}"


def _text_column(header: str, cells: list[str]) -> _Column:
    width = max(3, *(len(cell) for cell in [header, *cells]))
    return _Column([cell.ljust(width) for cell in [header, *cells]], is_left_aligned=True)


def _number_column(header: str, cells: list[str]) -> _Column:
    # The means stand right under each other, also where only some carry a spread.
    mean_width = max(len(cell.partition(_SPREAD)[0]) for cell in cells)
    has_spread = any(_SPREAD in cell for cell in cells)
    aligned = [cell.rjust(mean_width + len(cell) - len(cell.partition(_SPREAD)[0])) for cell in cells]
    width = max(3, *(len(cell) for cell in [header, *aligned]))
    if has_spread:
        return _Column([cell.ljust(width) for cell in [header, *aligned]], is_left_aligned=True)
    return _Column([cell.rjust(width) for cell in [header, *aligned]], is_left_aligned=False)


def _title(plan: pd.DataFrame) -> str:
    return f"{plan['anchor'].iloc[0]}. {plan['title'].iloc[0]}"


def _run(plan: pd.DataFrame, code: str = "") -> str:
    """Scale, seeds and command; `code` stands before and after the command."""
    seeds = ", ".join(str(seed) for seed in sorted({int(seed) for seed in plan["seed"].dropna()}))
    return f"Scale {_scales(plan)}; seeds {seeds or 'none'}; command: {code}{plan['command'].iloc[0]}{code}."


def _notes(table: pd.DataFrame, plan: pd.DataFrame) -> list[str]:
    metrics = metric_columns(plan)
    notes = []
    if table[[f"{metric}_paper" for metric in metrics]].notna().to_numpy().any():
        notes.append(
            "Lines named paper are the paper's own numbers, on COCO; "
            f"the other lines were measured here, at scale {_scales(plan)}."
        )
        notes.append("Compare the differences between rows with the paper's.")
    if set(metrics) & set(METRICS):
        notes.append("AP in percent.")
    if max(table["n"]) > 1:
        notes.append("± is the sample standard deviation over the n seeds.")
    return notes


def _scales(plan: pd.DataFrame) -> str:
    return ", ".join(dict.fromkeys(plan["scale"]))
