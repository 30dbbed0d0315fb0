"""The figure of the experiment `sync`: T_now and beta_now of every shard, with and without the all-reduce."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from dynrcnn_ray.report.drift import shard_values
from dynrcnn_ray.report.drift_columns import ALL_REDUCE, SHARDS
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
_ONE_SHARD = (0, (3, 2))


def draw_shards(plan: pd.DataFrame, dynamics: pd.DataFrame) -> Figure | None:
    """Draw every shard's T_now and beta_now over the training steps.

    A row of panels for each convention and C, a column for each number of shards; the trials of the first seed that
    has any steps.

    Args:
        plan: rows as in `schemas.PLAN`, with the labels `SHARDS` and `ALL_REDUCE`.
        dynamics: rows as in `schemas.DYNAMICS`; trials without any are left out.

    Returns:
        None if no row has more shards than one.
    """
    recorded = plan.loc[plan["trial_id"].isin(dynamics["trial_id"]), :]
    of_seed = plan.loc[plan["seed"] == recorded["seed"].min(), :]
    lines = [line | {"labels": dict(line["labels"])} for line in of_seed.to_dict("records")]
    groups = [line for line in lines if line["labels"][SHARDS] == "1"]
    numbers = list(dict.fromkeys(line["labels"][SHARDS] for line in lines if line["labels"][SHARDS] != "1"))
    if not numbers:
        return None
    steps = {str(trial_id): rows for trial_id, rows in dynamics.groupby("trial_id")}
    with figure_style():
        size = (2.3 * len(numbers) * len(_NAMES) + 0.6, 1.9 * len(groups) + 1.0)
        figure = Figure(figsize=size, layout="constrained")
        columns = figure.subplots(len(groups), len(numbers) * len(_NAMES), sharex=True, squeeze=False)
        for index, one_shard in enumerate(groups):
            for column, (statistic, number) in enumerate((name, number) for name in _NAMES for number in numbers):
                axes: Axes = columns[index, column]
                if column % len(numbers):
                    axes.sharey(columns[index, column - 1])
                    axes.tick_params(labelleft=False)
                else:
                    axes.set_ylabel(f"{_group_name(one_shard)}\n{_NAMES[statistic]}", fontsize=9)
                if index == 0:
                    axes.set_title(f"{number} shards")
                if index == len(groups) - 1:
                    axes.set_xlabel("training step")
                shown = [
                    line
                    for line in lines
                    if _group_name(line) == _group_name(one_shard) and line["labels"][SHARDS] == number
                ]
                _draw_panel(axes, one_shard, shown, steps, statistic)
        _draw_legend(figure)
        draw_heading(figure, plan, seeds_text(plan, dynamics.loc[dynamics["trial_id"].isin(of_seed["trial_id"]), :]))
    return figure


def _draw_panel(
    axes: Axes,
    one_shard: Mapping[Any, Any],
    shown: list[dict[Any, Any]],
    steps: Mapping[str, pd.DataFrame],
    statistic: str,
) -> None:
    for line in sorted(shown, key=lambda line: line["labels"][ALL_REDUCE]):
        is_shared = bool(line["labels"][ALL_REDUCE])
        colour, width = (_SHARED, 1.6) if is_shared else (_OF_ITS_OWN, 0.7)
        _draw_trial(axes, steps.get(line["trial_id"]), statistic, color=colour, linewidth=width)
    _draw_trial(axes, steps.get(one_shard["trial_id"]), statistic, color="black", linewidth=1.0, linestyle=_ONE_SHARD)
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    if not axes.lines:
        draw_note(axes, "no finished trial yet")


def _draw_trial(axes: Axes, steps: pd.DataFrame | None, statistic: str, **style: Any) -> None:
    if steps is not None:
        values = shard_values(steps, statistic)
        for shard in values:
            axes.plot(values.index, values[shard], **style)


def _group_name(line: Mapping[Any, Any]) -> str:
    labels = line["labels"]
    return f"{labels['Convention']}, C = {labels['C']}"


def _draw_legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], color=_OF_ITS_OWN, linewidth=0.9, label="without the all-reduce, a line a shard"),
        Line2D([], [], color=_SHARED, label="with it, a line a shard too"),
        Line2D([], [], color="black", linewidth=1.0, linestyle=_ONE_SHARD, label="one shard"),
    ]
    draw_legend_below(figure, handles)
