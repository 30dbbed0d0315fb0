"""Figure 3 of the paper: Dynamic R-CNN at work, step by step, on proposals that a run has recorded."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator, MultipleLocator

from dynrcnn_ray.paper.drawings.figure4 import smooth_l1
from dynrcnn_ray.report.drawing import of_proposals
from dynrcnn_ray.report.figure_style import (
    COLOURS,
    GREY,
    draw_heading,
    draw_legend_below,
    figure_style,
    seeds_text,
)

_GROUND_TRUTH, _POSITIVE, _NEGATIVE = COLOURS[0], COLOURS[5], COLOURS[4]
_QUADRATIC = COLOURS[3]
_ERROR_BARS = "0.86"
_IOU_BIN = 0.025
_LARGEST_ERROR = 1.5
_ERRORS = np.linspace(0, _LARGEST_ERROR, 301)
_ERROR_BINS = np.linspace(0, _LARGEST_ERROR, 16)
_USUAL_BETA = 1.0
"""The fixed beta of Faster R-CNN (Paper: Section 4.2), to compare with."""
_BOX_WEIGHT = 10.0
"""The box coder's weight of dx and dy, which normalises the error."""
_MOST_BOXES = 14


def draw_figure3(plan: pd.DataFrame, proposals: pd.DataFrame) -> Figure:
    """Draw what Dynamic Label Assignment and Dynamic SmoothL1 Loss do, a column for each recorded step.

    (a) Top: IoU of that step's proposals, positive from the T_now in force on. Middle: the same proposals in every
    column, those of one object at the last step, labelled by each column's T_now. (b) SmoothL1 at the beta_now in
    force, over the errors of that step's positives. The appended ground truths are left out.

    Args:
        plan: rows as in `schemas.PLAN`, of one experiment with one row.
        proposals: rows as in `schemas.PROPOSALS`, of that row's trials; at least one. The first trial of the plan that
            has any is drawn.
    """
    recorded = plan.loc[plan["trial_id"].isin(proposals["trial_id"]), "trial_id"]
    run = proposals.loc[proposals["trial_id"] == recorded.iloc[0], :]
    steps = {int(step): rows for step, rows in run.groupby("step", sort=True)}  # pyright: ignore[reportArgumentType]
    thresholds = [float(rows["iou_threshold"].iloc[0]) for rows in steps.values()]
    betas = [float(rows["smooth_l1_beta"].iloc[0]) for rows in steps.values()]
    object_box, boxes = _example_object(steps[max(steps)], min(thresholds), max(thresholds))

    with figure_style():
        figure = Figure(figsize=(2.8 * len(steps) + 1, 8.6), layout="constrained")
        ious, labels, losses = figure.subplots(3, len(steps), sharex="row", sharey="row", squeeze=False)
        bars = []
        for column, (step, rows) in enumerate(steps.items()):
            _draw_ious(ious[column], rows, thresholds[column])
            ious[column].set_title(f"step {step}: $T_{{now}}$ = {thresholds[column]:.2f}")
            _draw_labels(labels[column], object_box, boxes, thresholds[column])
            bars.append(_draw_loss(losses[column], rows, betas[column]))
            losses[column].set_title(f"step {step}: $β_{{now}}$ = {betas[column]:.2f}")
        ious[0].set_ylabel("(a) number of proposals")
        labels[0].set_ylabel(f"(a) one object's proposals\nof step {max(steps)} (pixels)")
        losses[0].set_ylabel("(b) SmoothL1 loss")
        # Pixels count downwards.
        labels[0].invert_yaxis()
        _share_bars(bars)
        _draw_legend(figure)
        draw_heading(figure, plan, seeds_text(plan, run))
    return figure


def _draw_ious(axes: Axes, rows: pd.DataFrame, threshold: float) -> None:
    ious = rows.loc[~rows["is_ground_truth"], "max_iou"].to_numpy()
    # The threshold is the edge of a bin, so that no bar holds both labels.
    edges = threshold + _IOU_BIN * np.arange(-np.ceil(threshold / _IOU_BIN), np.ceil((1 - threshold) / _IOU_BIN) + 1)
    for chosen, colour in ((ious < threshold, _NEGATIVE), (ious >= threshold, _POSITIVE)):
        axes.hist(ious[chosen], bins=edges.tolist(), color=colour)
    axes.axvline(threshold, color=_GROUND_TRUTH, linewidth=1.2)
    axes.set(xlabel="IoU with the ground truth", xlim=(0.3, 1))


def _example_object(rows: pd.DataFrame, lowest: float, highest: float) -> tuple[np.ndarray, pd.DataFrame]:
    """The object where most proposals change their label between the lowest and the highest threshold.

    Returns:
        Its box, `[4]`, and at most `_MOST_BOXES` of its proposals, evenly taken by IoU.
    """
    found = rows.loc[~rows["is_ground_truth"], :]
    if found.empty:
        return np.zeros(4), found
    # All proposals of an object lead to the same box, but for rounding.
    targets = np.round(_target_boxes(found), 1)
    keys = pd.Series([(image, *box) for image, box in zip(found["image"], targets, strict=True)], index=found.index)
    changes = (found["max_iou"] >= lowest) & (found["max_iou"] < highest)
    chosen = (keys == changes.groupby(keys).sum().idxmax()).to_numpy()
    proposals = found.loc[chosen, :].sort_values("max_iou", kind="stable")
    kept = np.linspace(0, len(proposals) - 1, min(len(proposals), _MOST_BOXES)).round().astype(int)
    return targets[chosen][0], proposals.iloc[kept]


def _target_boxes(rows: pd.DataFrame) -> np.ndarray:
    """The ground truth of each proposal, from its offsets (Paper: Eq. 2): `[n, 4]`, xyxy pixels."""
    corners = rows[["x1", "y1", "x2", "y2"]].to_numpy(dtype=float)
    sizes = corners[:, 2:] - corners[:, :2]
    centres = (corners[:, 2:] + corners[:, :2]) / 2 + rows[["dx", "dy"]].to_numpy() * sizes
    half = sizes * np.exp(rows[["dw", "dh"]].to_numpy()) / 2
    return np.concatenate([centres - half, centres + half], axis=1)


def _draw_labels(axes: Axes, object_box: np.ndarray, proposals: pd.DataFrame, threshold: float) -> None:
    # The best ones come last, on top of the others.
    for proposal in proposals.sort_values("max_iou", kind="stable").to_dict("records"):
        colour, width = (_POSITIVE, 1.8) if proposal["max_iou"] >= threshold else (_NEGATIVE, 0.9)
        _draw_box(axes, [proposal[name] for name in ("x1", "y1", "x2", "y2")], colour, width)
    _draw_box(axes, object_box.tolist(), _GROUND_TRUTH, 2.4)
    num_positives = np.count_nonzero(proposals["max_iou"] >= threshold)
    axes.set_title(f"$T_{{now}}$ = {threshold:.2f}: {num_positives} of {len(proposals)} positive")
    axes.set_aspect("equal", adjustable="box")
    axes.autoscale_view()
    axes.grid(visible=False)


def _draw_box(axes: Axes, box: list[float], colour: str, width: float) -> None:
    x1, y1, x2, y2 = box
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=width))


def _draw_loss(axes: Axes, rows: pd.DataFrame, beta: float) -> Axes:
    """Draw the loss over the errors.

    Returns:
        The axes of the errors' bars, behind those of the loss.
    """
    positives = rows.loc[~rows["is_ground_truth"] & (rows["max_iou"] >= rows["iou_threshold"]), :]
    errors = (_BOX_WEIGHT * positives[["dx", "dy"]].abs().mean(axis=1)).to_numpy()
    bars = axes.twinx()
    bars.hist(
        errors, bins=_ERROR_BINS.tolist(), weights=np.full(len(errors), 100 / max(1, len(errors))), color=_ERROR_BARS
    )
    bars.grid(visible=False)
    axes.set_zorder(bars.get_zorder() + 1)
    axes.patch.set_visible(False)

    axes.plot(_ERRORS, smooth_l1(_ERRORS, _USUAL_BETA), color=GREY, linestyle="--", linewidth=1.2)
    axes.plot(_ERRORS, smooth_l1(_ERRORS, beta), color=_GROUND_TRUTH)
    quadratic = np.linspace(0, min(beta, _LARGEST_ERROR))
    axes.plot(quadratic, smooth_l1(quadratic, beta), color=_QUADRATIC, linewidth=4)
    axes.axvline(beta, color=_QUADRATIC, linewidth=1)
    axes.set(xlabel="error (normalised offset)", xlim=(0, _LARGEST_ERROR), ylim=(0, None))
    axes.xaxis.set_major_locator(MultipleLocator(0.5))
    return bars


def _share_bars(panels: list[Axes]) -> None:
    highest = max(axes.get_ylim()[1] for axes in panels)
    for axes in panels:
        axes.set_ylim(0, highest)
        axes.set_yticks([])
    panels[-1].spines["right"].set_visible(True)
    panels[-1].yaxis.set_major_locator(MaxNLocator(4))
    panels[-1].set_ylabel("positives (percent)")


def _draw_legend(figure: Figure) -> None:
    handles = [
        Patch(color=_POSITIVE, label="positive: IoU ≥ $T_{now}$"),
        Patch(color=_NEGATIVE, label="negative: IoU < $T_{now}$"),
        Line2D([], [], color=_GROUND_TRUTH, linewidth=2.4, label="ground truth"),
        Patch(color=_ERROR_BARS, label="errors of the step's positives"),
        Line2D([], [], color=_QUADRATIC, linewidth=4, label="quadratic part, up to $β_{now}$"),
        Line2D([], [], color=GREY, linestyle="--", label=f"loss at a fixed β of {_USUAL_BETA:g}"),
    ]
    draw_legend_below(figure, handles)


FIGURES = (of_proposals("figure3", draw_figure3),)
