"""All claims in one figure, a forest plot: every difference with its interval, the paper's number and the verdict.

It is drawn from the rows of `tables/findings.parquet` alone. Claims stand in the order of the file, in a block for each
table and figure; differences of one unit share an axis. Claims of which nothing is measured are named at the end.
"""

import itertools
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dynrcnn_ray.report.figure_style import COLOURS, GREY, figure_style, plain
from dynrcnn_ray.report.finding_table import headline, remarks_on_lock
from dynrcnn_ray.report.findings import RATIO
from dynrcnn_ray.report.text_width import folded

Row = Mapping[str, Any]

_COLUMNS = 3
_BLACK, _BLUE, _VERMILLION, _SHADE = "#000000", COLOURS[5], COLOURS[4], "0.89"
STYLES: Mapping[str, Mapping[str, Any]] = {
    "confirmed": {"color": _BLUE, "marker": "o"},
    "contradicted": {"color": _VERMILLION, "marker": "X", "markersize": 6},
    "undecided": {"color": GREY, "marker": "s", "markerfacecolor": "white"},
    "not measured": {"color": "0.7", "marker": "_"},
}
"""How a verdict looks: each has a colour, and a marker that tells it in grey print."""
PAPER_STYLE: Mapping[str, Any] = {"color": _BLACK, "marker": "|", "markersize": 8, "markeredgewidth": 1.3}
_UNITS = {"percent": "percentage points", RATIO: "ratio"}

# Inches, and points for letters.
_TEXT, _PLOT, _GAP, _MARGIN = 1.95, 1.5, 0.2, 0.06
_COLUMN = _TEXT + _PLOT + _GAP
_INDENT, _SLACK = 0.13, 0.12
_TITLE_LETTERS, _LETTERS, _SMALL_LETTERS = 8.5, 7, 6.5
_LINE = 0.118
_ROOM_OF_CLAIM, _ROOM_OF_CONTRAST, _ROOM_OF_TITLE = 0.07, 0.03, 0.04
_EDGE = 0.012
"""By so much the shade lies lower, in the middle of its text."""
_ROOM_OF_AXIS = 0.34
_ROOM_OF_BLOCK = 0.1
_LETTERS_OF_AN_INCH = 19.5
"""So many letters of a text fit, on the average."""
_MUCH_LONGER = 5


@dataclass(frozen=True)
class _Line:
    """A claim or a contrast: its text, folded, its verdict, and the row of the file that is drawn beside it."""

    text: str
    verdict: str
    row: Row | None
    is_claim: bool

    @property
    def room(self) -> float:
        """Above the text."""
        return _ROOM_OF_CLAIM if self.is_claim else _ROOM_OF_CONTRAST

    @property
    def height(self) -> float:
        return self.room + _height_of(self.text)

    @property
    def centre(self) -> float:
        """Of the first line of the text, from the top."""
        return self.room + _LINE / 2


@dataclass(frozen=True)
class _Panel:
    """The differences of a table or figure that share a unit. Only the first one of a block has a title."""

    title: str
    unit: str
    lines: tuple[_Line, ...]

    @property
    def top(self) -> float:
        return _height_of(self.title) * _TITLE_LETTERS / _LETTERS + _ROOM_OF_TITLE if self.title else 0.0

    @property
    def height(self) -> float:
        return self.top + sum(line.height for line in self.lines) + _ROOM_OF_AXIS

    @property
    def reference(self) -> float:
        """Where the two sides are equal."""
        return 1.0 if self.unit == RATIO else 0.0


_Block = list[_Panel]


def draw_forest(rows: Sequence[Row], columns: int = _COLUMNS) -> Figure:
    """Draw every contrast of every claim that is measured, and name the others.

    Args:
        rows: as in `finding_table.FINDINGS`, in the file's order; at least one.
        columns: how many blocks may stand beside each other, fewer where there are fewer; one is for a narrow screen.

    Returns:
        The figure, in a size at which it is to be read: 3.7 inches wide for a column.
    """
    blocks = _blocks(rows)
    filled = _in_columns(blocks, columns)
    width = _COLUMN * max(1, len(filled)) + 2 * _MARGIN
    room = int((width - 2 * _MARGIN) * _LETTERS_OF_AN_INCH)
    head, foot = folded(_head(rows), room), folded(_not_measured(rows), room)
    handles = _handles(rows)
    columns_of_legend = len(handles) if len(filled) > 1 else 2
    legend_height = 0.17 * -(-len(handles) // columns_of_legend)
    top = 0.08 + _height_of(head) + legend_height + 0.12
    body = max((_height_of_blocks(column) for column in filled), default=0.0)
    height = top + body + (_height_of(foot) + 0.08 if foot else 0.0)
    with figure_style():
        figure = Figure(figsize=(width, height))
        left = _MARGIN / width
        figure.text(left, 1 - 0.06 / height, plain(head), fontsize=_LETTERS, va="top", linespacing=1.2)
        figure.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(0, 1 - (0.08 + _height_of(head)) / height),
            ncols=columns_of_legend,
            fontsize=_LETTERS,
            borderpad=0.3,
            handlelength=1.6,
            labelspacing=0.35,
        )
        for index, column in enumerate(filled):
            y = top
            for block in column:
                for panel in block:
                    _draw_panel(figure, panel, _MARGIN + index * _COLUMN, y)
                    y += panel.height
                y += _ROOM_OF_BLOCK
        figure.text(left, 0.05 / height, plain(foot), fontsize=_SMALL_LETTERS, color=GREY, va="bottom", linespacing=1.2)
    return figure


def _head(rows: Sequence[Row]) -> str:
    scales = ", ".join(dict.fromkeys(row["scale"] for row in rows if row["scale"]))
    return (
        f"{headline(rows)}{scales and f'; scale {scales}'}. Points: measured differences, with their 95 % intervals. "
        "The grey range is what a claim says."
    )


def _not_measured(rows: Sequence[Row]) -> str:
    """The claims of which no contrast is measured, in a text; empty if there are none."""
    left_out: dict[str, list[str]] = {}
    for parts in _claims(rows):
        if not _is_measured(parts):
            left_out.setdefault(_title(parts[0]["place"]).partition(".")[0], []).append(_words(parts[0]))
    told = (f"{place}: {'; '.join(claims)}." for place, claims in left_out.items())
    return f"Not measured. {' '.join(told)}" if left_out else ""


def _handles(rows: Sequence[Row]) -> list[Artist]:
    told = dict.fromkeys(row[field] for row in rows for field in ("verdict", "contrast_verdict") if row["n"])
    handles: list[Artist] = [
        Line2D([], [], label=verdict, **style) for verdict, style in STYLES.items() if verdict in told
    ]
    if any(row["paper"] is not None for row in rows if row["n"]):
        handles.append(Line2D([], [], linestyle="none", label="the paper's own number", **PAPER_STYLE))
    return [*handles, Patch(facecolor=_SHADE, label="claimed")]


def _claims(rows: Sequence[Row]) -> Iterator[list[Row]]:
    for _, parts in itertools.groupby(rows, key=lambda row: row["finding"]):
        yield list(parts)


def _words(row: Row) -> str:
    remarks = remarks_on_lock(row)
    return f"{row['claim']} ({', '.join(remarks)})" if remarks else row["claim"]


def _is_measured(parts: Sequence[Row]) -> bool:
    return any(row["n"] for row in parts)


def _title(place: str) -> str:
    """Where claims are made, without the section: "Table 3. Effects of each component"."""
    name, _, rest = place.partition(",")
    return f"{name}. {rest.partition('. ')[2]}" if rest else name


def _blocks(rows: Sequence[Row]) -> list[_Block]:
    """The claims that are measured, by table or figure and unit."""
    measured = [parts for parts in _claims(rows) if _is_measured(parts)]
    blocks = []
    for place, of_place in itertools.groupby(measured, key=lambda parts: parts[0]["place"]):
        lines: dict[str, list[_Line]] = {}
        for parts in of_place:
            for unit in dict.fromkeys(row["unit"] for row in parts):
                lines.setdefault(unit, []).extend(_lines(parts, unit))
        title = folded(_title(place), int((_COLUMN - _GAP) * _LETTERS_OF_AN_INCH * _LETTERS / _TITLE_LETTERS))
        blocks.append(
            [
                _Panel("" if index else title, unit, tuple(of_unit))
                for index, (unit, of_unit) in enumerate(lines.items())
            ]
        )
    return blocks


def _lines(parts: Sequence[Row], unit: str) -> list[_Line]:
    """A claim's contrasts of a unit below its words; its only contrast beside them."""
    first = parts[0]
    metrics = {row["metric"] for row in parts}
    is_told = len(metrics) == 1 and re.search(rf"(?<!\w){re.escape(first['metric'])}(?!\w)", first["claim"])
    words = folded(_words(first), int((_TEXT - _INDENT - _SLACK) * _LETTERS_OF_AN_INCH))
    if len(parts) == 1:
        return [_Line(words, first["verdict"], first, is_claim=True)]
    room = int((_TEXT - 2 * _INDENT - _SLACK) * _LETTERS_OF_AN_INCH)
    texts = (row["contrast"] if is_told else f"{row['contrast']}, {row['metric']}" for row in parts)
    contrasts = [
        _Line(folded(text, room), row["contrast_verdict"], row, is_claim=False)
        for text, row in zip(texts, parts, strict=True)
        if row["unit"] == unit
    ]
    return [_Line(words, first["verdict"], None, is_claim=True), *contrasts]


def _in_columns(blocks: Sequence[_Block], columns: int) -> list[Sequence[_Block]]:
    """The blocks in their order, in columns of which the highest is as low as can be."""
    count = min(columns, len(blocks))
    splits = (
        [blocks[start:stop] for start, stop in itertools.pairwise([0, *cuts, len(blocks)])]
        for cuts in itertools.combinations(range(1, len(blocks)), max(0, count - 1))
    )
    return min(splits, key=lambda split: max(map(_height_of_blocks, split)))


def _height_of_blocks(blocks: Sequence[_Block]) -> float:
    return sum(_ROOM_OF_BLOCK + sum(panel.height for panel in block) for block in blocks)


def _height_of(text: str) -> float:
    return _LINE * (text.count("\n") + 1) if text else 0.0


def _draw_panel(figure: Figure, panel: _Panel, left: float, top: float) -> None:
    """Draw a panel whose upper left corner lies so many inches from that of the figure."""
    width, height = figure.get_size_inches()
    inside = sum(line.height for line in panel.lines)
    bottom = top + panel.top + inside
    axes = figure.add_axes(((left + _TEXT) / width, 1 - bottom / height, _PLOT / width, inside / height))
    if panel.title:
        figure.text(
            left / width, 1 - top / height, plain(panel.title), fontsize=_TITLE_LETTERS, va="top", linespacing=1.2
        )
    low, high = _limits(panel)
    # Upwards axes in inches: a line of text stands where its difference does.
    axes.set(xlim=(low, high), ylim=(inside, 0), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.tick_params(labelsize=_SMALL_LETTERS, length=2, pad=1.5)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, panel.unit)))
    axes.set_xlabel(_UNITS.get(panel.unit, panel.unit), fontsize=_SMALL_LETTERS, labelpad=1)
    axes.axvline(panel.reference, color="0.35", linewidth=0.8, zorder=1.5)
    y = 0.0
    for line in panel.lines:
        _draw_text(axes, line, y)
        if line.row is not None:
            _draw_contrast(axes, line, y, (low, high))
        y += line.height


def _tick(value: float, unit: str) -> str:
    # Of a tick at zero may be left what a sum of floats leaves.
    rounded = round(value, 9)
    return f"{rounded:+g}" if rounded and unit != RATIO else f"{rounded:g}"


def _limits(panel: _Panel) -> tuple[float, float]:
    """The axis' ends: all points and intervals, but for an interval that is much longer than most."""
    rows = [line.row for line in panel.lines if line.row is not None]
    lengths = [row["high"] - row["low"] for row in rows if _has_interval(row)]
    longest = _MUCH_LONGER * statistics.median(lengths) if lengths else 0.0
    points = [panel.reference]
    for row in rows:
        points += [row[name] for name in ("measured", "paper", "claimed_above", "claimed_below") if row["n"]]
        if _has_interval(row) and row["high"] - row["low"] <= longest:
            points += [row["low"], row["high"]]
    known = [point for point in points if point is not None]
    low, high = min(known), max(known)
    room = 0.06 * (high - low) or 1.0
    return low - room, high + room


def _has_interval(row: Row) -> bool:
    return row["low"] is not None and row["high"] is not None


def _draw_text(axes: Axes, line: _Line, y: float) -> None:
    beside = axes.get_yaxis_transform()
    x, first = -_TEXT / _PLOT, y + line.centre
    if line.is_claim:
        style = {"markersize": 4.5, **STYLES[line.verdict]}
        axes.plot([x + 0.035], [first], transform=beside, clip_on=False, linestyle="none", **style)
    indent = _INDENT if line.is_claim else 2 * _INDENT
    axes.text(
        x + indent / _PLOT,
        first - _LINE / 2 - 0.01,
        plain(line.text),
        transform=beside,
        fontsize=_LETTERS,
        color=_BLACK if line.is_claim else "0.3",
        va="top",
        linespacing=1.2,
    )


def _draw_contrast(axes: Axes, line: _Line, y: float, limits: tuple[float, float]) -> None:
    row, centre = line.row, y + line.centre
    assert row is not None
    low, high = limits
    if not row["n"]:
        axes.text(
            sum(limits) / 2, centre, "not measured", fontsize=_SMALL_LETTERS, color=GREY, ha="center", va="center"
        )
        return
    above = low if row["claimed_above"] is None else row["claimed_above"]
    below = high if row["claimed_below"] is None else row["claimed_below"]
    axes.fill_betweenx([y + _EDGE, y + line.height + _EDGE], above, below, color=_SHADE, linewidth=0, zorder=0.5)
    style = STYLES[line.verdict]
    if _has_interval(row):
        ends = [max(low, row["low"]), min(high, row["high"])]
        axes.plot(ends, [centre, centre], color=style["color"], linewidth=1.5, solid_capstyle="butt")
        for end, marker, is_cut in ((low, "<", row["low"] < low), (high, ">", row["high"] > high)):
            if is_cut:
                axes.plot([end], [centre], color=style["color"], marker=marker, markersize=4, clip_on=False)
    axes.plot([row["measured"]], [centre], linestyle="none", zorder=3, **{"markersize": 4.5, **style})
    if row["paper"] is not None:
        axes.plot([row["paper"]], [centre], linestyle="none", zorder=4, **PAPER_STYLE)
