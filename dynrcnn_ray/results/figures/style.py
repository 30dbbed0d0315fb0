"""What the figures share: palette, matplotlib settings, trends over the training steps, files."""

import io
from typing import Any, Literal

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# matplotlib's own type for the keys exists only from 3.11 on.
STYLE: dict[Any, Any] = {
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
"""matplotlib settings under which every figure is drawn and saved."""

COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""
GREY = "0.45"

LineStyle = str | tuple[int, tuple[float, ...]]


def draw_trend(
    axes: Axes,
    dynamics: pd.DataFrame,
    column: str,
    *,
    colour: str,
    linestyle: LineStyle = "solid",
    label: str | None = None,
) -> None:
    """Draw a column over the training steps: the mean over the seeds, and a band from their minimum to their maximum.

    Args:
        axes: where to draw.
        dynamics: rows as in `schemas.DYNAMICS`, of all seeds of one setting.
        column: the field. If it is null in every row, nothing is drawn.
        colour: of line and band.
        linestyle: of the line.
        label: the line's name in a legend.
    """
    over_seeds = dynamics[["step", column]].dropna().groupby("step")[column].agg(["mean", "min", "max"])
    if over_seeds.empty:
        return
    axes.plot(over_seeds.index, over_seeds["mean"], color=colour, linestyle=linestyle, label=label)
    if len(dynamics["trial_id"].unique()) > 1:
        axes.fill_between(over_seeds.index, over_seeds["min"], over_seeds["max"], color=colour, alpha=0.12, lw=0)


def draw_note(axes: Axes, text: str) -> None:
    """Write into an empty panel why it is empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)


def draw_legend_beside(axes: Axes) -> None:
    """Put the legend to the right of its panel, where it covers no data."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=1.4, borderaxespad=0)


def draw_heading(figure: Figure, plan: pd.DataFrame, *remarks: str) -> None:
    """Head a figure with the experiment's title, its scale and further remarks."""
    where = f"{plan['title'].iloc[0]}, scale {plan['scale'].iloc[0]}"
    figure.suptitle("; ".join([where, *remarks]), fontsize=10, x=0.01, ha="left")


def seeds_text(plan: pd.DataFrame, frame: pd.DataFrame) -> str:
    """Which seeds' trials a frame holds: "seed 0" or "seeds 0, 1, 2"."""
    seeds = sorted({int(seed) for seed in plan.loc[plan["trial_id"].isin(frame["trial_id"]), "seed"]})
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"


def figure_bytes(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    """The figure as a file's content. The same figure gives the same bytes."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()
