"""Figure 2 of the paper: the positives' offsets shrink during training, and with a higher IoU threshold."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from matplotlib.ticker import MaxNLocator

from dynrcnn_ray.report.drawing import of_proposals
from dynrcnn_ray.report.figure_style import COLOURS, draw_heading, draw_note, figure_style, seeds_text

_LOW_IOU, _HIGH_IOU = 0.5, 0.6
_OFFSET_PAIRS = (("dx", "dy", COLOURS[5]), ("dw", "dh", COLOURS[4]))
_MOST_POINTS = 1000


def draw_figure2(plan: pd.DataFrame, proposals: pd.DataFrame) -> Figure:
    """Draw offsets of positives: the first recorded step at IoU 0.5, the last at 0.5, the last at 0.6.

    Panels of one row share their limits. At most 1000 points a panel are drawn; number and standard deviations are
    those of all. The appended ground truths are left out: their offsets are zero at any step.

    Args:
        plan: rows as in `schemas.PLAN`, of one experiment.
        proposals: rows as in `schemas.PROPOSALS`, of its trials; at least one.
    """
    found = proposals.loc[~proposals["is_ground_truth"], :]
    steps = proposals["step"].to_numpy()
    first, last = int(steps.min()), int(steps.max())
    # A run so short that it recorded one step has two columns.
    columns = list(dict.fromkeys([(first, _LOW_IOU), (last, _LOW_IOU), (last, _HIGH_IOU)]))
    with figure_style():
        figure = Figure(figsize=(3.2 * len(columns), 8), layout="constrained")
        panels = figure.subplots(2, len(columns), sharex="row", sharey="row")
        for row, (x, y, colour) in enumerate(_OFFSET_PAIRS):
            for column, (step, iou) in enumerate(columns):
                axes: Axes = panels[row, column]
                positives = found.loc[(found["step"] == step) & (found["max_iou"] >= iou), [x, y]]
                _draw_offsets(axes, positives, x, y, colour)
                heading = f"step {step}, IoU ≥ {iou}: {len(positives)} positives\n" if row == 0 else ""
                axes.set_title(heading + _sigmas(positives, x, y))
                axes.set(xlabel=f"${_symbol(x)}$ (offset)", aspect="equal", adjustable="box")
            panels[row, 0].set_ylabel(f"${_symbol(y)}$ (offset)")
            _share_limits(panels[row, 0], found.loc[found["max_iou"] >= _LOW_IOU, [x, y]])
        draw_heading(figure, plan, seeds_text(plan, proposals), "dashed: two standard deviations around the mean")
    return figure


def _draw_offsets(axes: Axes, offsets: pd.DataFrame, x: str, y: str, colour: str) -> None:
    if offsets.empty:
        draw_note(axes, "no proposal reaches this IoU")
        return
    drawn = offsets.sample(n=min(len(offsets), _MOST_POINTS), random_state=0)
    axes.scatter(drawn[x], drawn[y], s=8, color=colour, alpha=0.45, linewidths=0)
    if len(offsets) > 1:
        xs, ys = offsets[x].to_numpy(), offsets[y].to_numpy()
        ellipse = Ellipse((xs.mean(), ys.mean()), 4 * xs.std(), 4 * ys.std(), fill=False, linestyle="--", linewidth=1.2)
        axes.add_patch(ellipse)


def _sigmas(offsets: pd.DataFrame, x: str, y: str) -> str:
    if offsets.empty:
        return ""
    return ",  ".join(rf"$\sigma_{name[1]}$ = {np.std(offsets[name]):.3f}" for name in (x, y))


def _symbol(offset: str) -> str:
    return f"δ_{offset[1]}"


def _share_limits(axes: Axes, offsets: pd.DataFrame) -> None:
    """Symmetric limits that hold every positive of the row; its panels share them."""
    largest = offsets.abs().to_numpy().max(initial=0.1)
    axes.set(xlim=(-1.05 * largest, 1.05 * largest), ylim=(-1.05 * largest, 1.05 * largest))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))


FIGURES = (of_proposals("figure2", draw_figure2),)
