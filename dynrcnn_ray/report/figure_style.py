"""What the figures share: palette, matplotlib settings, trends over the training steps, files."""

import contextlib
import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import matplotlib
import pandas as pd
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynrcnn_ray.report.text_width import folded

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
    "lines.markersize": 4,
    "legend.frameon": False,
    "savefig.dpi": 150,
    # Without a salt, two SVGs of the same data differ in their ids.
    "svg.hashsalt": "dynrcnn_ray",
}
_FAMILIES = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK TC", "Noto Sans CJK KR", "Source Han Sans"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "IPAexGothic", "NanumGothic", "Droid Sans Fallback"),
    *("Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic"),
    "Arial Unicode MS",
)
"""Fonts with the letters that matplotlib's own lacks: Chinese, Japanese, Korean."""
_MISSING_LETTER = "Glyph .* missing from font"

COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""
MARKERS = ("", "o", "s", "^", "D", "v", "x")
"""Where more lines than colours are drawn, the second round of colours has the second marker, and so on."""
GREY = "0.45"

_INCHES_OF_A_ROW = 0.21
_ROWS_WITH_ROOM = 4
_COLUMNS_OF_AN_INCH = 11
"""So many letters of a heading or a legend fit, on the average."""

LineStyle = str | tuple[int, tuple[float, ...]]


@contextlib.contextmanager
def figure_style() -> Iterator[None]:
    """Settings of matplotlib under which every figure is drawn and saved. A letter that no font has is no warning."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    families = ["sans-serif", *(family for family in _FAMILIES if family in installed)]
    with matplotlib.rc_context({**_STYLE, "font.family": families}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", _MISSING_LETTER)
        yield


def draw_trend(
    axes: Axes,
    dynamics: pd.DataFrame,
    column: str,
    *,
    colour: str,
    linestyle: LineStyle = "solid",
    marker: str = "",
    label: str | None = None,
) -> None:
    """Draw a column over the training steps: the mean over the seeds, and a band from their minimum to their maximum.

    Args:
        axes: where to draw.
        dynamics: rows as in `schemas.DYNAMICS`, of all seeds of one setting.
        column: the field. If it is null in every row, nothing is drawn.
        colour: of line and band.
        linestyle: of the line.
        marker: at every eighth of the line; "" for none.
        label: the line's name in a legend.
    """
    over_seeds = dynamics[["step", column]].dropna().groupby("step")[column].agg(["mean", "min", "max"])
    if over_seeds.empty:
        return
    style = {"color": colour, "linestyle": linestyle, "marker": marker, "markevery": 0.125}
    axes.plot(over_seeds.index, over_seeds["mean"], label=label, **style)
    if len(dynamics["trial_id"].unique()) > 1:
        axes.fill_between(over_seeds.index, over_seeds["min"], over_seeds["max"], color=colour, alpha=0.12, lw=0)


def draw_note(axes: Axes, text: str) -> None:
    """Write into an empty panel why it is empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)


def draw_legend_beside(axes: Axes) -> None:
    """Put the legend to the right of its panel, where it covers no data."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=1.4, borderaxespad=0)


def draw_legend_below(figure: Figure, handles: Sequence[Artist]) -> None:
    """Put a legend below all panels, in as many columns as the figure has room for, and make room for its rows."""
    room = _columns(figure) - 6
    for handle in handles:
        handle.set_label(folded(str(handle.get_label()), room))
    for columns in (3, 2, 1):
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()
    lines = sum(str(handle.get_label()).count("\n") for handle in handles)
    rows = math.ceil(len(handles) / columns) + lines
    figure.set_figheight(figure.get_figheight() + _INCHES_OF_A_ROW * max(0, rows - _ROWS_WITH_ROOM))


def draw_heading(figure: Figure, plan: pd.DataFrame, *remarks: str) -> None:
    """Head a figure with the experiment's title, its scale and further remarks."""
    where = f"{plain(plan['title'].iloc[0])}, scale {plan['scale'].iloc[0]}"
    heading = folded("; ".join([where, *remarks]), _columns(figure))
    figure.suptitle(heading, fontsize=10, x=0.01, ha="left")


def _columns(figure: Figure) -> int:
    return int(_COLUMNS_OF_AN_INCH * figure.get_figwidth())


def plain(text: str) -> str:
    """A user's text, of which matplotlib is to take no part for a formula."""
    return text.replace("$", r"\$")


def seeds_text(plan: pd.DataFrame, frame: pd.DataFrame) -> str:
    """Which seeds' trials a frame holds: "seed 0" or "seeds 0, 1, 2"."""
    seeds = sorted({int(seed) for seed in plan.loc[plan["trial_id"].isin(frame["trial_id"]), "seed"]})
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"


def figure_bytes(figure: Figure, kind: Literal["png", "svg"], *, has_much_text: bool = False) -> bytes:
    """The figure as a file's content. The same figure gives the same bytes.

    Args:
        figure: what to save.
        kind: of the file.
        has_much_text: an SVG then holds text and not the shapes of its letters, which makes it many times smaller; the
            letters are of the reader's fonts.
    """
    with figure_style(), warnings.catch_warnings(record=True) as warned:
        warnings.filterwarnings("always", _MISSING_LETTER)
        if has_much_text:
            matplotlib.rcParams["svg.fonttype"] = "none"
        content = _saved(figure, kind)
        if kind == "svg" and any(re.match(_MISSING_LETTER, str(each.message)) for each in warned):
            # The reader's machine may have a font with the letters that this one lacks.
            with matplotlib.rc_context({"svg.fonttype": "none"}):
                content = _saved(figure, kind)
    return content


def _saved(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()
