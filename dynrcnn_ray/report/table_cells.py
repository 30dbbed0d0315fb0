"""A result table as cells of text, made once and rendered by `table_text` and `table_latex`.

Two lines a setting: what was measured here and, right below it, the paper's numbers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dynrcnn_ray.report.table_notes import ZERO_MARK, table_notes
from dynrcnn_ray.report.tables import baseline_rows, drift_columns, label_columns, metric_columns
from dynrcnn_ray.statistics.estimates import holds_zero
from dynrcnn_ray.statistics.power import MOST_SEEDS

_NOTHING = "-"
_DELTA = "ΔAP"
_DIFFERENCES_TITLE = "Differences to the baseline, paired by seed"
_DRIFT_TITLE = (
    "How far the shards lie apart in T_now and beta_now (the largest minus the smallest, mean over the updates), and "
    "from the baseline's, whose shards follow one value (mean absolute difference over updates and shards)"
)
_SEEDS_TITLE = (
    "How many seeds (first line: the smallest true difference to the baseline that the n seeds tell from zero in four "
    "runs of five; second line: how many seeds the paper's difference would need for that; paired t-test, from the "
    "measured spread of the differences, which few seeds know only roughly)"
)
_COURSE_TITLE = (
    "Algorithm 1 in the last step (where DLA or DSL is off, T_now or beta_now was only recorded); "
    "how many updates kept the old value: no image had a positive proposal, or, of beta_now, the median error was zero"
)


@dataclass(frozen=True)
class Cell:
    """One cell. Its parts are plain text without a space around them; most cells have the first alone.

    Attributes:
        text: a label, or a number such as 52.1 or +2.1.
        spread: the sample standard deviation over the seeds: ± 0.3.
        interval: of a difference: [+0.8, +3.4].
        mark: ≈0 if the interval cannot tell the difference from zero.
        remark: a few words in brackets that belong to it: (next look at 8 seeds).
        verdict: what a cell of verdicts says, for a renderer that colours it.
    """

    text: str = ""
    spread: str = ""
    interval: str = ""
    mark: str = ""
    remark: str = ""
    verdict: str = ""

    @property
    def addition(self) -> str:
        """All that stands behind the text."""
        return " ".join(part for part in (self.spread, self.interval, self.mark, self.remark) if part)


@dataclass(frozen=True)
class Column:
    """The head of a column. Numbers stand on the right, text on the left; a sentence may take several lines."""

    title: str
    is_number: bool = True
    is_sentence: bool = False


@dataclass(frozen=True)
class Line:
    """One line of a grid: a cell a column.

    Attributes:
        cells: as many as the grid has columns.
        is_paper: whether the numbers are the paper's own.
        starts_row: whether a row of the table begins here; a second line belongs to the row above it.
    """

    cells: tuple[Cell, ...]
    is_paper: bool = False
    starts_row: bool = True


@dataclass(frozen=True)
class Grid:
    """Lines below a head.

    Attributes:
        name: empty for the table itself, "drift", "differences", "seeds" or "course".
        title: one line, without a full stop.
        columns: the head.
        lines: at least one.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class TableCells:
    """Everything that a rendered table shows, as plain text.

    Attributes:
        experiment: the experiment's name.
        reference: `Experiment.reference`.
        run: scale and seeds: half a sentence, without a full stop.
        command: what made the table.
        notes: sentences that explain the table's lines and signs.
        grids: the table itself first; its `title` says what it shows. Then how far shards drift apart if the plan
            asks for it, the differences to the baseline if any has an interval, what it takes to tell them from zero,
            and the course of Algorithm 1 if any row has finished.
    """

    experiment: str
    reference: str
    run: str
    command: str
    notes: tuple[str, ...]
    grids: tuple[Grid, ...]


def make_cells(table: pd.DataFrame, plan: pd.DataFrame) -> TableCells:
    """The cells of a table.

    Args:
        table: as from `build_table`.
        plan: the plan that the table was built from, rows as in `schemas.PLAN`.
    """
    seeds = ", ".join(str(seed) for seed in sorted({int(seed) for seed in plan["seed"].dropna()}))
    scales = ", ".join(dict.fromkeys(plan["scale"]))
    make = (_main_grid, _drift_grid, _difference_grid, seeds_grid, _course_grid)
    grids = [make_grid(table, plan) for make_grid in make]
    return TableCells(
        experiment=plan["experiment"].iloc[0],
        reference=plan["anchor"].iloc[0],
        run=f"Scale {scales}; seeds {seeds or 'none'}",
        command=plan["command"].iloc[0],
        notes=tuple(table_notes(table, plan)),
        grids=tuple(grid for grid in grids if grid is not None),
    )


def simple_grid(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Grid:
    """A grid of ready texts: the first column is text, the others are numbers."""
    columns = tuple(Column(name, is_number=index > 0) for index, name in enumerate(header))
    return Grid("", title, columns, tuple(Line(tuple(Cell(text) for text in row)) for row in rows))


def _main_grid(table: pd.DataFrame, plan: pd.DataFrame) -> Grid:
    labels, metrics = label_columns(plan), metric_columns(plan)
    numbers = list(metrics)
    if "delta_AP" in table:
        numbers.insert(metrics.index("AP") + 1, _DELTA)
    baselines = baseline_rows(plan)

    lines: list[Line] = []
    for row in table.to_dict("records"):
        names = tuple(Cell(row[label]) for label in labels)
        is_baseline = baselines.get(row["row"]) == row["row"]
        if is_measured := row["source"] == "measured":
            cells = {metric: _measured(row, metric) for metric in metrics}
            cells[_DELTA] = Cell(_NOTHING) if is_baseline else _difference(row, "AP", with_interval=False)
            head = (*names, Cell(_measured_name(row)), Cell(_seeds(row)))
            lines.append(Line(head + tuple(cells[name] for name in numbers)))
        if not is_measured or any(not math.isnan(row[f"{metric}_paper"]) for metric in metrics):
            cells = {metric: Cell(_number(row[f"{metric}_paper"])) for metric in metrics}
            cells[_DELTA] = Cell(_NOTHING if is_baseline else _signed(row.get("delta_AP_paper", math.nan)))
            head = (*(Cell() for _ in names), Cell("paper"), Cell()) if is_measured else (*names, Cell("paper"), Cell())
            line = head + tuple(cells[name] for name in numbers)
            lines.append(Line(line, is_paper=True, starts_row=not is_measured))

    texts = [Column(name, is_number=False) for name in [*labels, "", "n"]]
    return Grid("", plan["title"].iloc[0], (*texts, *(Column(name) for name in numbers)), tuple(lines))


def _drift_grid(table: pd.DataFrame, plan: pd.DataFrame) -> Grid | None:
    """How far the shards drift apart; None if the plan does not ask, or no row has finished."""
    columns = drift_columns(plan)
    rows = [row for row in table.to_dict("records") if row["n"]]
    if not columns or not rows:
        return None
    lines = [Line((Cell(row["name"]), *(_drift(row, column) for column in columns))) for row in rows]
    heads = [column.replace("apart_", "apart: ").replace("from_baseline_", "from baseline: ") for column in columns]
    return Grid("drift", _DRIFT_TITLE, (Column("", is_number=False), *map(Column, heads)), tuple(lines))


def _difference_grid(table: pd.DataFrame, plan: pd.DataFrame) -> Grid | None:
    """Every metric's difference to the baseline with its interval; None if no row has an interval."""
    metrics = metric_columns(plan)
    rows = _compared_rows(table, plan)
    if not any(row["delta_n"] > 1 for row, _ in rows):
        return None

    lines: list[Line] = []
    for row, name in rows:
        if is_measured := row["source"] == "measured":
            differences = tuple(_difference(row, metric, with_interval=True) for metric in metrics)
            lines.append(Line((*name, Cell("measured"), Cell(str(row["delta_n"])), *differences)))
        papers = [row[f"delta_{metric}_paper"] for metric in metrics]
        if any(not math.isnan(paper) for paper in papers):
            name = tuple(Cell() for _ in name) if is_measured else name
            line = (*name, Cell("paper"), Cell(), *(Cell(_signed(paper)) for paper in papers))
            lines.append(Line(line, is_paper=True, starts_row=not is_measured))

    return Grid("differences", _DIFFERENCES_TITLE, _comparison_columns(rows, metrics), tuple(lines))


def seeds_grid(table: pd.DataFrame, plan: pd.DataFrame) -> Grid | None:
    """What the seeds of each row can tell from zero, and how many the paper's differences need.

    Args:
        table: as from `build_table`.
        plan: the plan that the table was built from.

    Returns:
        None if no row shares two seeds with its baseline.
    """
    metrics = metric_columns(plan)
    rows = [(row, name) for row, name in _compared_rows(table, plan) if row["delta_n"] > 1]
    lines: list[Line] = []
    for row, name in rows:
        told = (Cell(_number(row[f"delta_{metric}_detectable"])) for metric in metrics)
        lines.append(Line((*name, Cell("told from zero"), Cell(str(row["delta_n"])), *told)))
        needed = [row[f"delta_{metric}_seeds"] for metric in metrics]
        if not all(math.isnan(number) for number in needed):
            cells = (*(Cell() for _ in name), Cell("seeds for the paper's"), Cell())
            lines.append(Line((*cells, *(Cell(seeds_text(number)) for number in needed)), starts_row=False))
    return Grid("seeds", _SEEDS_TITLE, _comparison_columns(rows, metrics), tuple(lines)) if lines else None


def seeds_text(seeds: float) -> str:
    """A number of seeds from `seeds_needed`."""
    return _NOTHING if math.isnan(seeds) else f"> {MOST_SEEDS}" if math.isinf(seeds) else f"{seeds:.0f}"


def _compared_rows(table: pd.DataFrame, plan: pd.DataFrame) -> list[tuple[dict[Any, Any], tuple[Cell, ...]]]:
    """The rows that are no baseline, each with its name; and its baseline's if not all have the same."""
    baselines = baseline_rows(plan)
    rows = [row for row in table.to_dict("records") if baselines.get(row["row"], row["row"]) != row["row"]]
    names = dict(zip(table["row"], table["name"], strict=True))
    has_several = len({baselines[row["row"]] for row in rows}) > 1
    return [
        (row, (Cell(row["name"]), *([Cell(names.get(baselines[row["row"]], _NOTHING))] if has_several else [])))
        for row in rows
    ]


def _comparison_columns(
    rows: Sequence[tuple[dict[Any, Any], tuple[Cell, ...]]], metrics: Sequence[str]
) -> tuple[Column, ...]:
    heads = ["", *["baseline"] * (len(rows[0][1]) - 1), "", "n"] if rows else []
    return (*(Column(head, is_number=False) for head in heads), *(Column(metric) for metric in metrics))


def _course_grid(table: pd.DataFrame, plan: pd.DataFrame) -> Grid | None:
    """Where Algorithm 1 stood in the last step, a line for each row that has finished and has proposals.

    A row of masks is left out: the row of its boxes tells the same. None if no line is left.
    """
    of_masks = set(plan.loc[plan["metric_prefix"].fillna("") != "", "row"])
    rows = [
        row for row in table.to_dict("records") if row["row"] not in of_masks and not math.isnan(row["final_T_now"])
    ]
    if not rows:
        return None
    header = ["", "T_now", "beta_now", "positives/image", "T_now kept", "beta_now kept"]
    lines = [
        Line(
            (
                Cell(row["name"]),
                *(Cell(f"{row[name]:.3g}") for name in ("final_T_now", "final_beta_now", "final_positives")),
                *(Cell(f"{row[name]:.0f}") for name in ("kept_iou_updates", "kept_beta_updates")),
            )
        )
        for row in rows
    ]
    columns = tuple(Column(name, is_number=index > 0) for index, name in enumerate(header))
    return Grid("course", _COURSE_TITLE, columns, tuple(lines))


def _measured_name(row: Mapping[Any, Any]) -> str:
    status = str(row["status"])
    return {"finished": "measured", "missing": "not run yet"}.get(status, status)


def _seeds(row: Mapping[Any, Any]) -> str:
    return str(row["n"]) if row["n"] == row["n_planned"] else f"{row['n']} of {row['n_planned']}"


def _measured(row: Mapping[Any, Any], metric: str) -> Cell:
    deviation = row[f"{metric}_std"]
    return Cell(_number(row[metric]), spread="" if math.isnan(deviation) else f"± {deviation:.1f}")


def _drift(row: Mapping[Any, Any], column: str) -> Cell:
    value, deviation = row[column], row[f"{column}_std"]
    if math.isnan(value):
        return Cell(_NOTHING)
    return Cell(f"{value:.4f}", spread="" if math.isnan(deviation) else f"± {deviation:.4f}")


def _difference(row: Mapping[Any, Any], metric: str, *, with_interval: bool) -> Cell:
    difference, low, high = (row.get(f"delta_{metric}{end}", math.nan) for end in ("", "_low", "_high"))
    has_interval = with_interval and not math.isnan(low)
    return Cell(
        _signed(difference),
        interval=f"[{_signed(low)}, {_signed(high)}]" if has_interval else "",
        mark=ZERO_MARK if holds_zero(low, high) else "",
    )


def _number(value: float) -> str:
    return _NOTHING if math.isnan(value) else f"{value:.1f}"


def _signed(value: float) -> str:
    # Adding zero turns a rounded -0.0 into +0.0.
    return _NOTHING if math.isnan(value) else f"{round(value, 1) + 0.0:+.1f}"
