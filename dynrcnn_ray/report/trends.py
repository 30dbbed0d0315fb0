"""The trends of a table's rows: T_now, beta_now and the positives over the training steps."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dynrcnn_ray.report.drawing import Drawing, of_dynamics
from dynrcnn_ray.report.figure_style import (
    COLOURS,
    GREY,
    MARKERS,
    draw_heading,
    draw_legend_below,
    draw_trend,
    figure_style,
    plain,
)
from dynrcnn_ray.store.labels import row_names

COLUMNS = [
    "trial_id",
    "step",
    "T_now",
    "beta_now",
    "iou_threshold",
    "smooth_l1_beta",
    "positives_iou50",
    "positives",
]
"""The fields of `schemas.DYNAMICS` that the trends show."""
_RECORDED = (0, (4, 2))
_PROPOSALS = (0, (1, 1.2))


@dataclass(frozen=True)
class Setting:
    """One row of the plan: its name, colour and marker, and all logged steps of its seeds."""

    label: str
    colour: str
    marker: str
    steps: pd.DataFrame


def trends_of(experiment: str) -> Drawing:
    """The figure of an experiment's rows."""
    return of_dynamics(f"trends_{experiment}", draw_trends, COLUMNS)


def draw_trends(plan: pd.DataFrame, dynamics: pd.DataFrame) -> Figure:
    """Draw the trends of all settings of a table over the training steps: T_now, beta_now and the positives.

    A line is the mean over a setting's seeds, a band their minimum and maximum. Where DLA (DSL) is off, the
    statistic is recorded but not in force: its line is dashed, and the fixed value in force is a thin grey line.

    Args:
        plan: rows as in `schemas.PLAN`, of one experiment.
        dynamics: rows as in `schemas.DYNAMICS`; settings without any are left out.
    """
    settings = settings_of(plan, dynamics)
    with figure_style():
        figure = Figure(figsize=(7, 8.2), layout="constrained")
        threshold, beta, positives = figure.subplots(3, 1, sharex=True)
        _draw_statistic(threshold, settings, component="DLA", statistic="T_now", in_force="iou_threshold")
        threshold.set(title="(a) IoU threshold", ylabel="$T_{now}$ (IoU)")
        _draw_statistic(beta, settings, component="DSL", statistic="beta_now", in_force="smooth_l1_beta")
        beta.set(title="(b) SmoothL1 β", ylabel="$β_{now}$ (normalised offset)", ylim=(0, None))
        for setting in settings:
            draw_trend(positives, setting.steps, "positives", colour=setting.colour, marker=setting.marker)
            draw_trend(positives, setting.steps, "positives_iou50", colour=setting.colour, linestyle=_PROPOSALS)
        positives.set(title="(c) Sampled positive RoIs (solid) and proposals at IoU ≥ 0.5 (dotted)", ylabel="per image")
        positives.set(xlabel="training step", xlim=(0, None), ylim=(0, None))
        handles = [
            Line2D([], [], color=setting.colour, marker=setting.marker, label=setting.label) for setting in settings
        ]
        handles.append(Line2D([], [], color=GREY, linestyle=_RECORDED, label="recorded only, not in force"))
        draw_legend_below(figure, handles)
        draw_heading(figure, plan)
    return figure


def settings_of(plan: pd.DataFrame, dynamics: pd.DataFrame) -> list[Setting]:
    """The rows of a plan that have logged steps, each with its name, colour and marker."""
    settings = []
    rows = [lines for _, lines in plan.groupby("row", sort=True)]
    names = row_names([dict(lines["labels"].iloc[0]) for lines in rows])
    for index, (name, lines) in enumerate(zip(names, rows, strict=True)):
        steps = dynamics.loc[dynamics["trial_id"].isin(lines["trial_id"].dropna()), :]
        if len(steps):
            round_of_colours, at = divmod(index, len(COLOURS))
            marker = MARKERS[round_of_colours % len(MARKERS)]
            settings.append(Setting(plain(name), COLOURS[at], marker, steps))
    return settings


def _draw_statistic(axes: Axes, settings: Iterable[Setting], *, component: str, statistic: str, in_force: str) -> None:
    fixed_values = set()
    for setting in settings:
        recorded_only = _is_recorded_only(setting.steps, statistic, in_force)
        style = _RECORDED if recorded_only else "solid"
        draw_trend(axes, setting.steps, statistic, colour=setting.colour, linestyle=style, marker=setting.marker)
        if recorded_only:
            fixed_values.add(float(setting.steps[in_force].iloc[0]))
    for value in sorted(fixed_values):
        axes.axhline(value, color=GREY, linewidth=0.8)
        axes.text(
            x=1,
            y=value,
            s=f"{value:g} in force where {component} is off",
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="bottom",
            color=GREY,
            fontsize=8,
        )


def _is_recorded_only(steps: pd.DataFrame, statistic: str, in_force: str) -> bool:
    """Whether the value in force stands still while the statistic is elsewhere: DLA (or DSL) is off."""
    used = steps[in_force].to_numpy()
    return bool((used == used[0]).all() and (used != steps[statistic].to_numpy()).any())
