"""Small line charts: where their lines and texts lie."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dynrcnn_ray.report.text_width import shortened

_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 8, 24, 22
_NAME, _COLUMN = 24, 6.2
"""Pixels of a series' name, and of a column of the title."""
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8a6d00")


@dataclass(frozen=True)
class Level:
    """A line across the chart, in pixels."""

    x1: str
    x2: str
    y: str


@dataclass(frozen=True)
class Curve:
    """The points of a line, in pixels: x,y x,y ..."""

    points: str
    colour: str


@dataclass(frozen=True)
class Text:
    """A word at a place; `anchor` is which part of it lies there: start, middle or end."""

    x: str
    y: str
    text: str
    anchor: str
    colour: str = "currentColor"


@dataclass
class Chart:
    """What `templates/chart.html` draws.

    Attributes:
        label: for those who do not see it.
        width: in pixels.
        height: in pixels.
        levels: zero, the half and the top.
        lines: one a series.
        texts: the title, the scale and the series' names.
    """

    label: str
    width: int = 320
    height: int = 170
    levels: list[Level] = field(default_factory=list)
    lines: list[Curve] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)

    def y(self, fraction: float) -> float:
        """The height of a share of the top."""
        return self.height - _BOTTOM - (self.height - _TOP - _BOTTOM) * fraction

    def write(self, x: float, y: float, text: str, anchor: str, colour: str = "currentColor") -> None:
        """Add a text."""
        self.texts.append(Text(f"{x:.1f}", f"{y:.1f}", text, anchor, colour))


def line_chart(
    title: str,
    steps: Sequence[float],
    series: Mapping[str, Sequence[float]],
    *,
    unit: str = "step",
    top: float | None = None,
) -> Chart | None:
    """Lines over the training steps, or something else, from zero up, with a legend in the title's line.

    Args:
        title: what is drawn; shortened to what the names leave of the line, which stand to its right.
        steps: the horizontal positions.
        series: the values of each line by its short name; those that are not finite are left out.
        unit: what the horizontal positions are.
        top: the value at the upper border; None: the highest.

    Returns:
        The chart; None if there is nothing to draw.
    """
    finite = [value for values in series.values() for value in values if math.isfinite(value)]
    if not finite or not steps:
        return None
    top, last = top or max(finite) or 1.0, max(steps)
    chart = Chart(f"{title}: {', '.join(series)}")
    right = chart.width - _RIGHT
    names = _NAME * len(series) if len(series) > 1 else 0
    chart.write(_LEFT - 34, 13, shortened(title, int((right - _LEFT + 34 - names) / _COLUMN)), "start")
    for fraction in (0.0, 0.5, 1.0):
        y = chart.y(fraction)
        chart.levels.append(Level(str(_LEFT), str(right), f"{y:.1f}"))
        chart.write(_LEFT - 4, y + 4, f"{top * fraction:.3g}", "end")
    chart.write(_LEFT, chart.height - 6, "0", "middle")
    chart.write(right, chart.height - 6, f"{unit} {last:g}", "end")
    for index, (name, values) in enumerate(series.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        points = [
            f"{_LEFT + (right - _LEFT) * step / last:.1f},{chart.y(value / top):.1f}"
            for step, value in zip(steps, values, strict=True)
            if math.isfinite(value)
        ]
        chart.lines.append(Curve(" ".join(points), colour))
        if len(series) > 1:
            chart.write(right - _NAME * (len(series) - 1 - index), 13, name, "end", colour)
    return chart
