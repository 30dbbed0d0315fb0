"""Draw an experiment's table and figure from the store alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from dynrcnn_ray.report.conclusion import conclusion
from dynrcnn_ray.report.drift import DYNAMICS_COLUMNS, with_drift
from dynrcnn_ray.report.figures import figure1, figure5
from dynrcnn_ray.report.figures.figure1 import draw_figure1
from dynrcnn_ray.report.figures.figure2 import draw_figure2
from dynrcnn_ray.report.figures.figure3 import draw_figure3
from dynrcnn_ray.report.figures.figure4 import draw_figure4
from dynrcnn_ray.report.figures.figure5 import draw_figure5, draw_trends
from dynrcnn_ray.report.figures.style import figure_bytes
from dynrcnn_ray.report.figures.sync import draw_workers
from dynrcnn_ray.report.figures.sync_simulated import draw_simulated_workers
from dynrcnn_ray.report.finding_table import FINDINGS, FINDINGS_FILE, finding_cells, findings_parquet
from dynrcnn_ray.report.findings import Finding, judge
from dynrcnn_ray.report.simulation import records_of
from dynrcnn_ray.report.table_latex import cells_to_latex, table_to_latex
from dynrcnn_ray.report.table_text import cells_to_markdown, cells_to_text, table_to_markdown, table_to_text
from dynrcnn_ray.report.tables import build_table, drift_columns, table_to_parquet_bytes, trial_columns
from dynrcnn_ray.report.trial_numbers import read_numbers
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.parquet import from_parquet_bytes
from dynrcnn_ray.store.results_store import ResultStore

_OF_DYNAMICS = {"figure1": (draw_figure1, figure1.COLUMNS), "figure5": (draw_figure5, figure5.COLUMNS)}
_TRENDS = (draw_trends, figure5.COLUMNS)
_OF_PROPOSALS = {"figure2": draw_figure2, "figure3": draw_figure3}
_OF_FORMULA = {"figure4": draw_figure4}
_OF_WORKERS = "sync"


@dataclass(frozen=True)
class DrawnReport:
    """What `draw_report` has drawn.

    Attributes:
        table: the table as text for a terminal; empty for a figure of the paper.
        paths: absolute paths or URIs of the files written; none for a figure whose trials have not finished.
        conclusion: what a table comes to, in a sentence; empty where there is none.
        numbers: the table as from `table_of`; None for a figure of the paper and for the findings.
    """

    table: str
    paths: list[str]
    conclusion: str = ""
    numbers: pd.DataFrame | None = None


def is_figure(experiment: str) -> bool:
    """Whether an experiment is one of the paper's figures; any other is a table."""
    return experiment in {*_OF_DYNAMICS, *_OF_PROPOSALS, *_OF_FORMULA}


def figure_names(experiment: str) -> tuple[str, ...]:
    """Names of the figures that an experiment may have: files of `figures/` without their ending."""
    if experiment == _OF_WORKERS:
        return (f"{experiment}_workers", f"{experiment}_simulated")
    return (experiment if is_figure(experiment) else f"figure5_{experiment}",)


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
    store: ResultStore, experiment: str, trials: pd.DataFrame | None = None, plan: pd.DataFrame | None = None
) -> DrawnReport:
    """Write what an experiment shows: a figure of the paper, or a table with the trends of its rows.

    Trials that run or have failed show as such in a table and are left out of a figure; drawing again later fills them
    in.

    Args:
        store: where to read and write.
        experiment: its name.
        trials: rows as in `schemas.TRIALS` of all trials, where they have been read before.
        plan: what to draw, rows as in `schemas.PLAN`; None: the store's, which is that of the latest command.

    Raises:
        StoreError: the experiment was never run in this store, or the store cannot be read or written.
    """
    if plan is None:
        plan = _plan(store, experiment)
    own = plan["trial_id"].dropna()
    if trials is None:
        rows = store.trials_so_far(own, ["trial_id", "status"] if is_figure(experiment) else trial_columns(plan))
    else:
        rows = trials.loc[trials["trial_id"].isin(own), :]
    files: dict[str, bytes] = {}
    text, sentence, table = "", "", None
    if not is_figure(experiment):
        table = table_of(store, plan, rows)
        text, sentence = table_to_text(table, plan), conclusion(table)
        files[f"tables/{experiment}.parquet"] = table_to_parquet_bytes(table, plan)
        files[f"tables/{experiment}.md"] = table_to_markdown(table, plan).encode()
        files[f"tables/{experiment}.tex"] = table_to_latex(table, plan).encode()
    finished = set(rows.loc[rows["status"] == "finished", "trial_id"])
    for name, figure in draw_figures(store, experiment, plan, finished).items():
        files[f"figures/{name}.png"] = figure_bytes(figure, "png")
        files[f"figures/{name}.svg"] = figure_bytes(figure, "svg")

    return DrawnReport(text, _write(store, files), sentence, table)


def draw_findings(
    store: ResultStore,
    findings: Sequence[Finding],
    rows: Mapping[str, Mapping[int, Mapping[str, float]]],
    command: str,
    trials: pd.DataFrame | None = None,
) -> DrawnReport:
    """Write the verdicts on the paper's claims, as the trials of this store's plans give them.

    Args:
        store: where to read and write.
        findings: the claims.
        rows: the paper's numbers of each row, by experiment and row.
        command: what was called.
        trials: rows as in `schemas.TRIALS` of all trials, where they have been read before.

    Raises:
        StoreError: the store cannot be read or written.
    """
    content = findings_parquet(judge(findings, read_numbers(store, rows, trials)), command)
    cells = finding_cells(from_parquet_bytes(content, FINDINGS).to_pylist())
    markdown, latex = cells_to_markdown(cells).encode(), cells_to_latex(cells).encode()
    files = {FINDINGS_FILE: content, "tables/findings.md": markdown, "tables/findings.tex": latex}
    return DrawnReport(cells_to_text(cells), _write(store, files))


def draw_figures(store: ResultStore, experiment: str, plan: pd.DataFrame, finished: set[str]) -> dict[str, Figure]:
    """The figures of an experiment, by name: the paper's if it is one of its figures, else those of the table's rows.

    Args:
        store: where to read what the trials recorded.
        experiment: its name.
        plan: its plan, rows as in `schemas.PLAN`.
        finished: ids of the plan's trials that have finished.

    Returns:
        Those for which a finished trial has recorded what they show.

    Raises:
        StoreError: the store cannot be read.
    """
    if experiment == _OF_WORKERS:
        figures = (_workers(store, plan, finished), _simulated_workers(store, plan, finished))
    else:
        figures = (_one_figure(store, experiment, plan, finished),)
    return {name: figure for name, figure in zip(figure_names(experiment), figures, strict=True) if figure is not None}


def _one_figure(store: ResultStore, experiment: str, plan: pd.DataFrame, finished: set[str]) -> Figure | None:
    if experiment in _OF_FORMULA:
        return _OF_FORMULA[experiment]()
    if experiment in _OF_PROPOSALS:
        recorded, draw = store.proposals(finished), _OF_PROPOSALS[experiment]
    else:
        draw, columns = _OF_DYNAMICS.get(experiment, _TRENDS)
        recorded = store.dynamics(finished, columns)
    return draw(plan, recorded) if len(recorded) else None


def _workers(store: ResultStore, plan: pd.DataFrame, finished: set[str]) -> Figure | None:
    recorded = store.dynamics(finished, DYNAMICS_COLUMNS)
    return draw_workers(plan, recorded) if len(recorded) else None


def _simulated_workers(store: ResultStore, plan: pd.DataFrame, finished: set[str]) -> Figure | None:
    """From the first finished trial of the plan that recorded its images' statistics."""
    for line in plan.loc[plan["trial_id"].isin(list(finished)), :].to_dict("records"):
        statistics = store.statistics([line["trial_id"]])
        if len(statistics):
            [trial] = store.trials([line["trial_id"]], ["trial_id", "config"]).to_dict("records")
            dynamic = store.config_of(trial).dynamic
            records = records_of(statistics, dynamic.initial_iou, dynamic.initial_beta)
            return draw_simulated_workers(plan, records, dynamic.update_interval, int(line["seed"]))
    return None


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
