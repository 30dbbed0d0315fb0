"""Draw an experiment's table and figure from the store alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dynrcnn_ray.report.conclusion import conclusion
from dynrcnn_ray.report.drawing import Drawing
from dynrcnn_ray.report.drift import DYNAMICS_COLUMNS, with_drift
from dynrcnn_ray.report.figure_style import figure_bytes
from dynrcnn_ray.report.finding_table import FINDINGS, FINDINGS_FILE, finding_cells, findings_parquet
from dynrcnn_ray.report.findings import Claim, judge
from dynrcnn_ray.report.forest import draw_forest
from dynrcnn_ray.report.table_latex import cells_to_latex, table_to_latex
from dynrcnn_ray.report.table_text import cells_to_markdown, cells_to_text, table_to_markdown, table_to_text
from dynrcnn_ray.report.tables import build_table, drift_columns, table_to_parquet_bytes, trial_columns
from dynrcnn_ray.report.trial_numbers import NumbersOfRow
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.parquet import from_parquet_bytes
from dynrcnn_ray.store.results_store import ResultStore


@dataclass(frozen=True)
class DrawnReport:
    """What `draw_report` has drawn.

    Attributes:
        table: the table as text for a terminal; empty for a figure.
        paths: absolute paths or URIs of the files written; none for a figure whose trials have not finished.
        conclusion: a table's result, in a sentence; empty where there is none.
        numbers: the table as from `table_of`; None for a figure and for the findings.
    """

    table: str
    paths: list[str]
    conclusion: str = ""
    numbers: pd.DataFrame | None = None


def is_figure(plan: pd.DataFrame) -> bool:
    """Whether an experiment is a figure alone; any other is a table, with the figures of its rows."""
    return not any(len(metrics) for metrics in plan["metrics"])


def table_of(store: ResultStore, plan: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """The table of a plan, as from `build_table`, with what its columns need besides the trials' own rows.

    Args:
        store: where to read it.
        plan: rows as in `schemas.PLAN`, of one experiment; not empty.
        trials: rows as in `schemas.TRIALS`.

    Raises:
        StoreError: the store cannot be read.
    """
    if drift_columns(plan):
        finished = trials.loc[trials["status"] == "finished", "trial_id"]
        trials = with_drift(plan, trials, store.dynamics(finished, DYNAMICS_COLUMNS))
    return build_table(plan, trials)


def draw_report(
    store: ResultStore,
    experiment: str,
    figures: Sequence[Drawing],
    trials: pd.DataFrame | None = None,
    plan: pd.DataFrame | None = None,
) -> DrawnReport:
    """Write what an experiment shows: its table, if it has metrics, and its figures.

    Trials that run or have failed show as such in a table and are left out of a figure; drawing again later fills them
    in.

    Args:
        store: where to read and write.
        experiment: its name.
        figures: what it brings, from `figures_of`.
        trials: rows as in `schemas.TRIALS` of all trials, where they have been read before.
        plan: what to draw, rows as in `schemas.PLAN`; None: the store's, which is that of the latest command.

    Raises:
        StoreError: the experiment was never run in this store, or the store cannot be read or written.
    """
    if plan is None:
        plan = _plan(store, experiment)
    own = plan["trial_id"].dropna()
    if trials is None:
        rows = store.trials_so_far(own, ["trial_id", "status"] if is_figure(plan) else trial_columns(plan))
    else:
        rows = trials.loc[trials["trial_id"].isin(own), :]
    files: dict[str, bytes] = {}
    text, sentence, table = "", "", None
    if not is_figure(plan):
        table = table_of(store, plan, rows)
        text, sentence = table_to_text(table, plan), conclusion(table)
        files[f"tables/{experiment}.parquet"] = table_to_parquet_bytes(table, plan)
        files[f"tables/{experiment}.md"] = table_to_markdown(table, plan).encode()
        files[f"tables/{experiment}.tex"] = table_to_latex(table, plan).encode()
    finished = set(rows.loc[rows["status"] == "finished", "trial_id"])
    for each in figures:
        if (figure := each.draw(store, plan, finished)) is not None:
            files[f"figures/{each.name}.png"] = figure_bytes(figure, "png")
            files[f"figures/{each.name}.svg"] = figure_bytes(figure, "svg")
    return DrawnReport(text, _write(store, files), sentence, table)


def draw_findings(
    store: ResultStore,
    findings: Sequence[Claim],
    numbers: Mapping[str, Mapping[int, NumbersOfRow]],
    command: str,
    finished_trials: int,
) -> DrawnReport:
    """Write the verdicts on claims, and figures of them.

    One figure has all, also narrow, as the page shows it on a phone; each table's claims have one of their own.

    Args:
        store: where to write.
        findings: the claims.
        numbers: what was measured, by experiment and row.
        command: what was called.
        finished_trials: how many the store has.

    Raises:
        StoreError: the store cannot be written.
    """
    content = findings_parquet(judge(findings, numbers), command, finished_trials)
    rows = from_parquet_bytes(content, FINDINGS).to_pylist()
    cells = finding_cells(rows)
    markdown, latex = cells_to_markdown(cells).encode(), cells_to_latex(cells).encode()
    files = {FINDINGS_FILE: content, "tables/findings.md": markdown, "tables/findings.tex": latex}
    figure, narrow = draw_forest(rows), draw_forest(rows, columns=1)
    files["figures/findings.png"] = figure_bytes(figure, "png")
    files["figures/findings.svg"] = figure_bytes(figure, "svg", has_much_text=True)
    files["figures/findings_narrow.svg"] = figure_bytes(narrow, "svg", has_much_text=True)
    _write(store, _figures_of_tables(rows))
    return DrawnReport(cells_to_text(cells), _write(store, files))


def _figures_of_tables(rows: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """A figure of the claims about each experiment, which the page shows beside its table."""
    files: dict[str, bytes] = {}
    for experiment in dict.fromkeys(row["experiment"] for row in rows if row["n"]):
        figure = draw_forest([row for row in rows if row["experiment"] == experiment], columns=1)
        files[f"figures/{experiment}_claims.png"] = figure_bytes(figure, "png")
        files[f"figures/{experiment}_claims.svg"] = figure_bytes(figure, "svg", has_much_text=True)
    return files


def _write(store: ResultStore, files: Mapping[str, bytes]) -> list[str]:
    for relative, content in files.items():
        store.files.write_bytes(relative, content)
    return [store.files.describe_path(relative) for relative in files]


def _plan(store: ResultStore, experiment: str) -> pd.DataFrame:
    plan = store.plan(experiment)
    if plan is None:
        known = ", ".join(store.experiments()) or "none"
        raise StoreError(
            f"{store.files.describe_path('plans')} has no {experiment!r}, only: {known}; run the experiment first"
        )
    return plan
