"""Figure 5 of the paper: how the IoU threshold and SmoothL1's beta move during training."""

import pandas as pd
from matplotlib.figure import Figure

from dynrcnn_ray.report.drawing import of_dynamics
from dynrcnn_ray.report.figure_style import (
    draw_heading,
    draw_legend_beside,
    draw_note,
    draw_trend,
    figure_style,
    seeds_text,
)
from dynrcnn_ray.report.trends import COLUMNS, settings_of
from dynrcnn_ray.store.labels import EMPTY_CELLS


def draw_figure5(plan: pd.DataFrame, dynamics: pd.DataFrame) -> Figure:
    """Draw T_now for several K_I and beta_now for several K_beta over the training steps.

    A line is the mean over a setting's seeds, a band their minimum and maximum. A panel without any logged step says
    so.

    Args:
        plan: rows as in `schemas.PLAN`, of one experiment; a row with a cell in the label column `K_I` goes into the
            upper panel, one with a cell in `K_β` into the lower.
        dynamics: rows as in `schemas.DYNAMICS`; settings without any are left out.
    """
    with figure_style():
        # Below each other, as a phone shows them.
        figure = Figure(figsize=(5.6, 5.6), layout="constrained")
        threshold, beta = figure.subplots(2, 1, sharex=True)
        for axes, column, statistic in ((threshold, "K_I", "T_now"), (beta, "K_β", "beta_now")):
            of_column = plan.loc[[dict(labels).get(column, "") not in EMPTY_CELLS for labels in plan["labels"]], :]
            for setting in settings_of(of_column, dynamics):
                label = setting.label.replace(column, f"${column}$")
                draw_trend(axes, setting.steps, statistic, colour=setting.colour, marker=setting.marker, label=label)
            if not axes.lines:
                draw_note(axes, "no finished trial yet")
            draw_legend_beside(axes)
        threshold.set(title="(a) IoU threshold with DLA", ylabel="$T_{now}$ (IoU)")
        beta.set(title="(b) SmoothL1 β with DSL", ylabel="$β_{now}$ (normalised offset)")
        beta.set(xlabel="training step", xlim=(0, None), ylim=(0, None))
        draw_heading(figure, plan, seeds_text(plan, dynamics))
    return figure


FIGURES = (of_dynamics("figure5", draw_figure5, COLUMNS),)
