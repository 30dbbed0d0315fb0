"""Draw an experiment's table and figure from the store alone."""

import pandas as pd
from matplotlib.figure import Figure

from dynrcnn_ray.results.figures.figure1 import draw_figure1
from dynrcnn_ray.results.figures.figure2 import draw_figure2
from dynrcnn_ray.results.figures.figure3 import draw_figure3
from dynrcnn_ray.results.figures.figure4 import draw_figure4
from dynrcnn_ray.results.figures.figure5 import draw_figure5, draw_trends
from dynrcnn_ray.results.figures.style import figure_bytes
from dynrcnn_ray.results.store import ResultStore, StoreError
from dynrcnn_ray.results.table_latex import table_to_latex
from dynrcnn_ray.results.table_text import table_to_markdown
from dynrcnn_ray.results.tables import build_table, table_to_parquet_bytes

_OF_DYNAMICS = {"figure1": draw_figure1, "figure5": draw_figure5}
_OF_PROPOSALS = {"figure2": draw_figure2, "figure3": draw_figure3}
_OF_FORMULA = {"figure4": draw_figure4}


def is_figure(experiment: str) -> bool:
    """Whether an experiment is one of the paper's figures; any other is a table."""
    return experiment in {*_OF_DYNAMICS, *_OF_PROPOSALS, *_OF_FORMULA}


def draw_report(store: ResultStore, experiment: str) -> list[str]:
    """Write what an experiment shows: a figure of the paper, or a table with the trends of its rows.

    Trials that have not finished show as such in a table and are left out of a figure; drawing again later fills them
    in.

    Returns:
        Absolute paths or URIs of the files written; none for a figure whose trials have not finished.

    Raises:
        StoreError: the experiment was never run in this store, or the store cannot be read or written.
    """
    plan = _plan(store, experiment)
    files: dict[str, bytes] = {}
    if not is_figure(experiment):
        table = build_table(plan, store.trials(plan["trial_id"].dropna()))
        files[f"tables/{experiment}.parquet"] = table_to_parquet_bytes(table, plan)
        files[f"tables/{experiment}.md"] = table_to_markdown(table, plan).encode()
        files[f"tables/{experiment}.tex"] = table_to_latex(table, plan).encode()
    figure = figure_of(store, experiment)
    if figure is not None:
        name = experiment if is_figure(experiment) else f"figure5_{experiment}"
        files[f"figures/{name}.png"] = figure_bytes(figure, "png")
        files[f"figures/{name}.svg"] = figure_bytes(figure, "svg")

    for relative, content in files.items():
        store.write_bytes(relative, content)
    return [store.describe_path(relative) for relative in files]


def figure_of(store: ResultStore, experiment: str) -> Figure | None:
    """The figure of an experiment: the paper's if it is one of its figures, else the trends of the table's rows.

    Returns:
        None if no finished trial has recorded what the figure shows.

    Raises:
        StoreError: the experiment was never run in this store, or the store cannot be read.
    """
    plan = _plan(store, experiment)
    if experiment in _OF_FORMULA:
        return _OF_FORMULA[experiment]()
    trials = store.trials(plan["trial_id"].dropna())
    finished = trials.loc[trials["status"] == "finished", "trial_id"]
    if experiment in _OF_PROPOSALS:
        recorded, draw = store.proposals(finished), _OF_PROPOSALS[experiment]
    else:
        recorded, draw = store.dynamics(finished), _OF_DYNAMICS.get(experiment, draw_trends)
    return draw(plan, recorded) if len(recorded) else None


def _plan(store: ResultStore, experiment: str) -> pd.DataFrame:
    plan = store.plan(experiment)
    if plan is None:
        known = ", ".join(store.experiments()) or "none"
        raise StoreError(
            f"{store.describe_path('plans')} has no {experiment!r}, only: {known}; run the experiment first"
        )
    return plan
