"""The figure of the experiment `sync`: T_now and beta_now of every worker, with and without the all-reduce."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from dynrcnn_ray.report.drift import worker_values
from dynrcnn_ray.report.drift_columns import ALL_REDUCE, WORKERS
from dynrcnn_ray.report.figure_style import (
    COLOURS,
    draw_heading,
    draw_legend_below,
    draw_note,
    figure_style,
    seeds_text,
)

_NAMES = {"T_now": "$T_{now}$ (IoU)", "beta_now": "$β_{now}$ (normalised offset)"}
_OF_ITS_OWN = COLOURS[5]
_SHARED = COLOURS[4]
_ONE_WORKER = (0, (3, 2))


def draw_workers(plan: pd.DataFrame, dynamics: pd.DataFrame) -> Figure | None:
    """Draw every worker's T_now and beta_now over the training steps.

    A row of panels for each convention and C, a column for each number of workers; the trials of the first seed that
    has any steps.

    Args:
        plan: rows as in `schemas.PLAN`, with the labels `WORKERS` and `ALL_REDUCE`.
        dynamics: rows as in `schemas.DYNAMICS`; trials without any are left out.

    Returns:
        None if no row has more workers than one.
    """
    recorded = plan.loc[plan["trial_id"].isin(dynamics["trial_id"]), :]
    of_seed = plan.loc[plan["seed"] == recorded["seed"].min(), :]
    lines = [line | {"labels": dict(line["labels"])} for line in of_seed.to_dict("records")]
    groups = [line for line in lines if line["row"] == line["baseline_row"]]
    numbers = list(dict.fromkeys(line["labels"][WORKERS] for line in lines if line["labels"][WORKERS] != "1"))
    if not numbers:
        return None
    steps = {str(trial_id): rows for trial_id, rows in dynamics.groupby("trial_id")}
    with figure_style():
        size = (2.3 * len(numbers) * len(_NAMES) + 0.6, 1.9 * len(groups) + 1.0)
        figure = Figure(figsize=size, layout="constrained")
        columns = figure.subplots(len(groups), len(numbers) * len(_NAMES), sharex=True, squeeze=False)
        for index, one_worker in enumerate(groups):
            for column, (statistic, number) in enumerate((name, number) for name in _NAMES for number in numbers):
                axes: Axes = columns[index, column]
                if column % len(numbers):
                    axes.sharey(columns[index, column - 1])
                    axes.tick_params(labelleft=False)
                else:
                    axes.set_ylabel(f"{_group_name(one_worker)}\n{_NAMES[statistic]}", fontsize=9)
                if index == 0:
                    axes.set_title(f"{number} workers")
                if index == len(groups) - 1:
                    axes.set_xlabel("training step")
                shown = [
                    line
                    for line in lines
                    if line["baseline_row"] == one_worker["row"] and line["labels"][WORKERS] == number
                ]
                _draw_panel(axes, one_worker, shown, steps, statistic)
        _draw_legend(figure)
        draw_heading(figure, plan, seeds_text(plan, dynamics.loc[dynamics["trial_id"].isin(of_seed["trial_id"]), :]))
    return figure


def _draw_panel(
    axes: Axes,
    one_worker: Mapping[Any, Any],
    shown: list[dict[Any, Any]],
    steps: Mapping[str, pd.DataFrame],
    statistic: str,
) -> None:
    for line in sorted(shown, key=lambda line: line["labels"][ALL_REDUCE]):
        is_shared = bool(line["labels"][ALL_REDUCE])
        colour, width = (_SHARED, 1.6) if is_shared else (_OF_ITS_OWN, 0.7)
        _draw_trial(axes, steps.get(line["trial_id"]), statistic, color=colour, linewidth=width)
    _draw_trial(axes, steps.get(one_worker["trial_id"]), statistic, color="black", linewidth=1.0, linestyle=_ONE_WORKER)
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    if not axes.lines:
        draw_note(axes, "no finished trial yet")


def _draw_trial(axes: Axes, steps: pd.DataFrame | None, statistic: str, **style: Any) -> None:
    if steps is not None:
        values = worker_values(steps, statistic)
        for worker in values:
            axes.plot(values.index, values[worker], **style)


def _group_name(one_worker: Mapping[Any, Any]) -> str:
    labels = one_worker["labels"]
    return f"{labels['Convention']}, C = {labels['C']}"


def _draw_legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], color=_OF_ITS_OWN, linewidth=0.9, label="without the all-reduce, a line a worker"),
        Line2D([], [], color=_SHARED, label="with it, a line a worker too"),
        Line2D([], [], color="black", linewidth=1.0, linestyle=_ONE_WORKER, label="one worker"),
    ]
    draw_legend_below(figure, handles)
