"""Figure 1 of the paper: while the baseline trains, its proposals become more and better."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from dynrcnn_ray.report.drawing import of_dynamics
from dynrcnn_ray.report.figure_style import (
    COLOURS,
    draw_heading,
    draw_legend_beside,
    draw_note,
    draw_trend,
    figure_style,
    seeds_text,
)

_LEVELS = (50, 60, 70, 80, 90)
COLUMNS = [
    "trial_id",
    "step",
    *(f"positives_iou{level}" for level in _LEVELS),
    "iou_at_rank",
    "error_at_rank",
    "sigma_dx",
    "sigma_dw",
]
"""The fields of `schemas.DYNAMICS` that the figure shows."""


def draw_figure1(plan: pd.DataFrame, dynamics: pd.DataFrame) -> Figure:
    """Draw the number and the accuracy of the proposals over the training steps.

    A line is the mean over the seeds, a band their minimum and maximum. A panel whose fields no trial has recorded
    says so.

    Args:
        plan: rows as in `schemas.PLAN`, of one experiment with one row.
        dynamics: rows as in `schemas.DYNAMICS`, of that row's trials; at least one.
    """
    with figure_style():
        figure = Figure(figsize=(10, 5.6), layout="constrained")
        (counts, rank_iou), (sigmas, rank_error) = figure.subplots(2, 2, sharex=True)

        levels = {f"positives_iou{level}": f"IoU ≥ {level / 100}" for level in _LEVELS}
        _draw_panel(counts, dynamics, levels, COLOURS)
        counts.set(title="(a) Positive proposals by IoU threshold, log scale", ylabel="proposals per image")
        counts.set_yscale("log", nonpositive="mask")
        counts.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        counts.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        counts.yaxis.set_minor_locator(NullLocator())

        _draw_panel(sigmas, dynamics, {"sigma_dx": r"$\sigma_x$", "sigma_dw": r"$\sigma_w$"}, COLOURS[4:])
        sigmas.set(title="Spread of their offsets at IoU ≥ 0.5", ylabel="standard deviation (offset)")
        sigmas.set(xlabel="training step", ylim=(0, None))

        _draw_panel(rank_iou, dynamics, {"iou_at_rank": None}, COLOURS[3:])
        rank_iou.set(title="(b) IoU of the $K_I$-th most accurate proposal", ylabel="IoU")

        _draw_panel(rank_error, dynamics, {"error_at_rank": None}, COLOURS[4:])
        rank_error.set(title="Regression error of the $K_β$-th most accurate positive")
        rank_error.set(ylabel="error (normalised offset)", xlabel="training step", xlim=(0, None), ylim=(0, None))
        draw_heading(figure, plan, seeds_text(plan, dynamics))
    return figure


def _draw_panel(
    axes: Axes, dynamics: pd.DataFrame, names: dict[str, str] | dict[str, None], colours: tuple[str, ...]
) -> None:
    for (column, label), colour in zip(names.items(), colours, strict=False):
        draw_trend(axes, dynamics, column, colour=colour, label=label)
    if not axes.lines:
        draw_note(axes, "not recorded in these trials")
    draw_legend_beside(axes)


FIGURES = (of_dynamics("figure1", draw_figure1, COLUMNS),)
