"""Figure 5 of the paper: how the IoU threshold, SmoothL1's beta and the positives move during training."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dynrcnn_ray.results.labels import row_names

# matplotlib's own type for the keys exists only from 3.11 on.
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.92",
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "savefig.dpi": 150,
    # Without a salt, two SVGs of the same data differ in their ids.
    "svg.hashsalt": "dynrcnn_ray",
}
# Okabe and Ito's palette, which colour-blind readers can tell apart.
_COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7")
_RECORDED = (0, (4, 2))
_PROPOSALS = (0, (1, 1.2))
_GREY = "0.45"


@dataclass(frozen=True)
class _Setting:
    """One row of the table: its name, colour and all logged steps of its seeds."""

    label: str
    colour: str
    steps: pd.DataFrame


def draw_figure5(plan: pd.DataFrame, dynamics: pd.DataFrame) -> Figure:
    """Draw the trends of a table's settings over the training steps, as the paper's Figure 5 does.

    A line is the mean over a setting's seeds, a band their minimum and maximum. Where DLA (DSL) is off, the
    statistic is recorded but not in force: its line is dashed, and the fixed value in force is a thin grey line.

    Args:
        plan: rows as in `schemas.PLAN`, of one experiment.
        dynamics: rows as in `schemas.DYNAMICS`; settings without any are left out.
    """
    settings = _settings(plan, dynamics)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7, 8.2), layout="constrained")
        threshold, beta, positives = figure.subplots(3, 1, sharex=True)
        _draw_statistic(threshold, settings, component="DLA", statistic="T_now", in_force="iou_threshold")
        threshold.set(title="(a) IoU threshold", ylabel="$T_{now}$ (IoU)")
        _draw_statistic(beta, settings, component="DSL", statistic="beta_now", in_force="smooth_l1_beta")
        beta.set(title="(b) SmoothL1 β", ylabel="$β_{now}$ (normalised offset)", ylim=(0, None))
        _draw_positives(positives, settings)
        positives.set(title="(c) Sampled positive RoIs (solid) and proposals at IoU ≥ 0.5 (dotted)", ylabel="per image")
        positives.set(xlabel="training step", xlim=(0, None), ylim=(0, None))
        _draw_legend(figure, settings)
        figure.suptitle(f"{plan['title'].iloc[0]}, scale {plan['scale'].iloc[0]}", fontsize=10, x=0.01, ha="left")
    return figure


def figure_bytes(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    """The figure as a file's content. The same figure gives the same bytes."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def _settings(plan: pd.DataFrame, dynamics: pd.DataFrame) -> list[_Setting]:
    settings = []
    rows = [lines for _, lines in plan.groupby("row", sort=True)]
    names = row_names([dict(lines["labels"].iloc[0]) for lines in rows])
    for index, (name, lines) in enumerate(zip(names, rows, strict=True)):
        steps = dynamics.loc[dynamics["trial_id"].isin(lines["trial_id"].dropna()), :]
        if len(steps):
            colour = _COLOURS[index % len(_COLOURS)]
            settings.append(_Setting(name, colour, steps))
    return settings


def _draw_statistic(axes: Axes, settings: Iterable[_Setting], *, component: str, statistic: str, in_force: str) -> None:
    fixed_values = set()
    for setting in settings:
        recorded_only = _is_recorded_only(setting.steps, statistic, in_force)
        _draw_trend(axes, setting, statistic, _RECORDED if recorded_only else "solid")
        if recorded_only:
            fixed_values.add(float(setting.steps[in_force].iloc[0]))
    for value in sorted(fixed_values):
        axes.axhline(value, color=_GREY, linewidth=0.8)
        axes.text(
            x=1,
            y=value,
            s=f"{value:g} in force where {component} is off",
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="bottom",
            color=_GREY,
            fontsize=8,
        )


def _is_recorded_only(steps: pd.DataFrame, statistic: str, in_force: str) -> bool:
    """Whether the value in force stands still while the statistic is elsewhere: DLA (or DSL) is off."""
    used = steps[in_force].to_numpy()
    return bool((used == used[0]).all() and (used != steps[statistic].to_numpy()).any())


def _draw_positives(axes: Axes, settings: Iterable[_Setting]) -> None:
    for setting in settings:
        _draw_trend(axes, setting, "positives", "solid")
        _draw_trend(axes, setting, "positives_iou50", _PROPOSALS)


def _draw_trend(axes: Axes, setting: _Setting, column: str, linestyle: str | tuple[int, tuple[float, ...]]) -> None:
    over_seeds = setting.steps.groupby("step")[column].agg(["mean", "min", "max"])
    axes.plot(over_seeds.index, over_seeds["mean"], color=setting.colour, linestyle=linestyle)
    if len(set(setting.steps["trial_id"])) > 1:
        axes.fill_between(
            over_seeds.index, over_seeds["min"], over_seeds["max"], color=setting.colour, alpha=0.12, lw=0
        )


def _draw_legend(figure: Figure, settings: Iterable[_Setting]) -> None:
    handles = [Line2D([], [], color=setting.colour, label=setting.label) for setting in settings]
    handles.append(Line2D([], [], color=_GREY, linestyle=_RECORDED, label="recorded only, not in force"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
