"""Small line charts as SVG: light enough for a page with a hundred of them."""

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT = 320, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 8, 24, 22
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8a6d00")


def line_chart(title: str, steps: Sequence[float], series: Mapping[str, Sequence[float]]) -> str:
    """Lines over the training steps, from zero up, with a legend in the title's line.

    Args:
        title: what is drawn; it leaves room for the names, which stand to its right.
        steps: the horizontal positions.
        series: the values of each line by its short name; those that are not finite are left out.
    """
    finite = [value for values in series.values() for value in values if math.isfinite(value)]
    if not finite or not steps:
        return ""
    top, last = max(finite) or 1.0, max(steps)
    parts = [_text(_LEFT - 34, 13, title, "start")]
    for fraction in (0.0, 0.5, 1.0):
        y = _y(fraction)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#8886"/>')
        parts.append(_text(_LEFT - 4, y + 4, f"{top * fraction:.3g}", "end"))
    parts.append(_text(_LEFT, _HEIGHT - 6, "0", "middle"))
    parts.append(_text(_WIDTH - _RIGHT, _HEIGHT - 6, f"step {last:g}", "end"))
    for index, (name, values) in enumerate(series.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        points = " ".join(
            f"{_LEFT + (_WIDTH - _LEFT - _RIGHT) * step / last:.1f},{_y(value / top):.1f}"
            for step, value in zip(steps, values, strict=True)
            if math.isfinite(value)
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        if len(series) > 1:
            parts.append(_text(_WIDTH - _RIGHT - 24 * (len(series) - 1 - index), 13, name, "end", colour))
    label = f"{title}: {', '.join(series)}"
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
        "</figure>"
    )


def _y(fraction: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * fraction


def _text(x: float, y: float, text: str, anchor: str, colour: str = "currentColor") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="11" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
