"""The figure of all claims holds every difference of the findings, and the page shows it before their tables."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dynrcnn_ray.report.figure_style import figure_bytes, figure_style
from dynrcnn_ray.report.finding_table import FINDINGS, FINDINGS_FILE
from dynrcnn_ray.report.findings import Claim, Contrast, Term
from dynrcnn_ray.report.forest import PAPER_STYLE, STYLES, draw_forest
from dynrcnn_ray.report.html.page import draw_html_report, read_trials
from dynrcnn_ray.report.report import draw_findings
from dynrcnn_ray.report.trial_numbers import NumbersOfRow
from dynrcnn_ray.store.parquet import from_parquet_bytes
from dynrcnn_ray.store.results_store import ResultStore

REFERENCE = Path(__file__).resolve().parents[2] / "experiments" / "reference_mini"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
POINTS = {style["marker"] for style in STYLES.values()}


def finding(number: int, verdict: str = "confirmed", **fields: Any) -> dict[str, Any]:
    """A row of the findings: a claim of one contrast, if nothing else is said."""
    return {
        **dict.fromkeys(FINDINGS.names),
        "finding": number,
        "experiment": "table3",
        "place": "Table 3, Section 5.4. Effects of each component",
        "claim": f"Claim {number}",
        "verdict": verdict,
        "verdict_holm": verdict,
        "contrast": "DLA against baseline",
        "metric": "AP",
        "unit": "percent",
        "claimed_above": 0.0,
        "paper": 1.0,
        "measured": 2.0,
        "low": 0.5,
        "high": 3.5,
        "n": 5,
        "seeds": 5,
        "contrast_verdict": verdict,
        "scale": "mini",
        "command": "c",
    } | fields


def unmeasured(number: int, **fields: Any) -> dict[str, Any]:
    nothing = {"measured": None, "low": None, "high": None, "n": 0, "scale": None, "contrast_verdict": "not measured"}
    return finding(number, **{"verdict": "not measured", **nothing, **fields})


def data_of(line: Line2D) -> tuple[list[float], list[float]]:
    return np.asarray(line.get_xdata(), float).tolist(), np.asarray(line.get_ydata(), float).tolist()


def points(axes: Axes) -> list[tuple[float, str, str]]:
    """What is measured: value, marker and colour, from the top."""
    lines = [line for line in axes.lines if line.get_marker() in POINTS and line.get_transform() == axes.transData]
    drawn = sorted((y[0], x[0], line) for line in lines for x, y in [data_of(line)])
    return [(x, str(line.get_marker()), to_hex(line.get_color())) for _, x, line in drawn]


def intervals(axes: Axes) -> list[tuple[float, ...]]:
    """From the top."""
    data = [data_of(line) for line in axes.lines]
    return [tuple(x) for y, x in sorted((y[0], x) for x, y in data if len(x) == 2 and y[0] == y[1])]


def marks_of_paper(axes: Axes) -> list[float]:
    return [data_of(line)[0][0] for line in axes.lines if line.get_marker() == PAPER_STYLE["marker"]]


def shades(axes: Axes) -> list[tuple[float, float]]:
    boxes = [each.get_paths()[0].get_extents() for each in axes.collections]
    return [(float(box.x0), float(box.x1)) for box in boxes]


def texts(figure: Figure) -> str:
    """All words of a figure, of which a fold makes one space."""
    of_axes = [text for axes in figure.axes for text in axes.texts]
    return " ".join(re.sub(r"\s+", " ", text.get_text()) for text in [*figure.texts, *of_axes])


def style_of(verdict: str) -> tuple[str, str]:
    return STYLES[verdict]["marker"], to_hex(STYLES[verdict]["color"])


@pytest.fixture(scope="module")
def reference() -> list[dict[str, Any]]:
    return from_parquet_bytes((REFERENCE / FINDINGS_FILE).read_bytes(), FINDINGS).to_pylist()


@pytest.mark.parametrize("columns", [1, 3])
def test_nothing_of_the_papers_claims_is_lost(reference: list[dict[str, Any]], columns: int):
    figure = draw_forest(reference, columns)

    measured = [row for row in reference if row["n"]]
    drawn = [point for axes in figure.axes for point in points(axes)]
    assert sorted(drawn) == sorted((row["measured"], *style_of(row["contrast_verdict"])) for row in measured)
    papers = [mark for axes in figure.axes for mark in marks_of_paper(axes)]
    assert sorted(papers) == sorted(row["paper"] for row in measured if row["paper"] is not None)
    assert sum(len(shades(axes)) for axes in figure.axes) == len(measured)
    told = texts(figure)
    assert not {row["claim"] for row in reference if row["claim"] not in told}


def test_a_verdict_is_told_by_colour_and_by_marker():
    assert len({style["color"] for style in STYLES.values()}) == len({*POINTS, PAPER_STYLE["marker"]}) - 1 == 4
    verdicts = ["confirmed", "contradicted", "undecided"]

    (axes,) = draw_forest([finding(number, verdict) for number, verdict in enumerate(verdicts)]).axes

    assert [point[1:] for point in points(axes)] == [style_of(verdict) for verdict in verdicts]


def test_a_difference_has_its_interval_the_papers_mark_and_the_claimed_range():
    above = finding(0, measured=2.0, low=0.5, high=3.5, paper=1.0)
    within = finding(1, measured=-0.2, low=-0.8, high=0.4, paper=None, claimed_above=-1.0, claimed_below=1.0)
    below = finding(2, measured=-2.0, low=None, high=None, paper=-1.5, claimed_above=None, claimed_below=0.5)

    (axes,) = draw_forest([above, within, below]).axes

    low, high = axes.get_xlim()
    assert low < -2.0 < 3.5 < high
    assert intervals(axes) == [(0.5, 3.5), (-0.8, 0.4)]
    assert [point[0] for point in points(axes)] == [2.0, -0.2, -2.0]
    assert marks_of_paper(axes) == [1.0, -1.5]
    assert shades(axes) == [(0.0, high), (-1.0, 1.0), (low, 0.5)]
    assert axes.get_xlabel() == "percentage points"


def test_an_interval_that_is_much_longer_than_the_others_ends_in_an_arrow_and_lets_them_be_seen():
    rows = [finding(number) for number in range(3)] + [finding(3, "undecided", low=-200.0, high=204.0)]

    (axes,) = draw_forest(rows).axes

    low, high = axes.get_xlim()
    assert -2 < low < 0.5 < 3.5 < high < 6
    assert intervals(axes)[-1] == (low, high)
    assert {str(line.get_marker()) for line in axes.lines} >= {"<", ">"}


def test_each_unit_has_an_axis_and_ratios_are_set_against_one():
    rows = [
        finding(0, claim="Trends", unit="IoU", metric="T_now"),
        finding(0, claim="Trends", unit="normalised offset", metric="beta_now"),
        finding(
            1,
            place="Table 7, Section 5.5. Speed",
            unit="ratio",
            claimed_above=1.0,
            measured=1.2,
            low=1.1,
            high=1.3,
            paper=1.24,
        ),
    ]

    figure = draw_forest(rows)

    assert [axes.get_xlabel() for axes in figure.axes] == ["IoU", "normalised offset", "ratio"]
    *others, ratio = figure.axes
    assert [axes.get_xlim()[0] < 0 < axes.get_xlim()[1] for axes in others] == [True, True]
    assert 0.9 < ratio.get_xlim()[0] < 1
    assert texts(figure).count("Trends") == 2
    assert ["Table 7. Speed" in text.get_text() for text in figure.texts].count(True) == 1


def test_what_is_not_measured_is_named_and_takes_little_room():
    measured = [
        finding(0),
        finding(1, claim="Partly"),
        unmeasured(1, claim="Partly", contrast="x", verdict="undecided"),
    ]
    missing = [unmeasured(number, claim=f"Absent {number}", place="Table 9, Section 5.7. Other") for number in (2, 3)]

    alone, figure = draw_forest(measured), draw_forest([*measured, *missing])

    assert "Not measured. Table 9: Absent 2; Absent 3." in texts(figure)
    assert len(figure.axes) == len(alone.axes) == 1
    assert figure.get_figheight() - alone.get_figheight() < 0.5
    assert [text.get_text() for text in figure.axes[0].texts].count("not measured") == 1
    assert draw_forest(missing).axes == []


@pytest.mark.parametrize("columns", [1, 3])
def test_no_text_runs_over_another_or_out_of_the_picture(reference: list[dict[str, Any]], columns: int):
    figure = draw_forest(reference, columns)
    with figure_style():
        figure.canvas.draw()
        claims = [text.get_window_extent() for axes in figure.axes for text in axes.texts]
        titles = [text.get_window_extent() for text in figure.texts if text.get_text()]
        plots = [axes.get_window_extent() for axes in figure.axes]
        legend = figure.legends[0].get_window_extent()

    boxes = [*claims, *titles, *plots, legend]
    for index, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
        assert not [
            other
            for other in boxes[:index]
            if min(box.x1, other.x1) - max(box.x0, other.x0) > 0.5
            and min(box.y1, other.y1) - max(box.y0, other.y0) > 0.5
        ]


def test_verdicts_of_an_earlier_release_are_drawn():
    old = finding(0) | dict.fromkeys(("seeds", "next_look", "chance", "seeds_needed"))

    assert [point[0] for point in points(draw_forest([old]).axes[0])] == [2.0]


def test_words_that_somebody_chose_stay_as_they_are():
    words = "costs $5 or $6_x$: 検出器の平均精度が上がる & <b>"
    own = finding(0, claim=words, line="AP: a > b", place="mine, Grid mine. A title", locked_at=NOON)

    figure = draw_forest([own])

    assert words in texts(figure).replace(r"\$", "$")
    assert figure_bytes(figure, "svg", has_much_text=True).decode().count("&lt;b&gt;") == 1


def test_a_claim_of_ones_own_says_that_it_came_afterwards():
    locked = {"place": "mine, Grid mine. A title", "locked_at": NOON}
    rows = [finding(0, is_afterwards=True, **locked), finding(1, is_afterwards=False, dropped_at=NOON, **locked)]

    told = texts(draw_forest(rows))

    assert "Claim 0 (added afterwards)" in told
    assert "Claim 1 (dropped)" in told
    assert "mine. A title" in told
    assert "claims of the paper" not in told


def test_the_page_shows_the_figure_first_and_folds_the_tables(tmp_path: Path):
    rows = {row: NumbersOfRow({seed: {"AP": 50.0 + row + 0.1 * seed * row} for seed in range(5)}) for row in (0, 1)}
    contrast = Contrast("DLA against baseline", "AP", "percent", (Term(1, "AP", 1, 1.0), Term(0, "AP", -1, 0)))
    claim = Claim("table3", "Table 3, Section 5.4. Effects", "It gains AP", (contrast,))
    store = ResultStore.open(tmp_path)

    drawn = draw_findings(store, [claim], {"table3": rows}, "c", 10)

    names = ("figures/findings.png", "figures/findings.svg", "figures/findings_narrow.svg")
    assert drawn.paths[-3:] == [str(tmp_path / name) for name in names]
    page = Path(draw_html_report(store, read_trials(store), ())).read_text()
    places = [page.index(part) for part in ('<section id="findings">', "<picture>", "<source media", "<img", "<table>")]
    assert places == sorted(places)
    assert page.count("data:image/svg+xml;base64,") == 2
    assert sorted(path.name for path in tmp_path.glob("figures/table3*")) == ["table3_claims.png", "table3_claims.svg"]
    assert "<details><summary>All claims in numbers</summary>" in page
    assert 'alt="Of 1 claim of the paper: 1 confirmed' in page


def test_a_store_without_the_figure_shows_its_tables(tmp_path: Path):
    store = ResultStore.open(tmp_path)
    store.files.write_bytes(FINDINGS_FILE, (REFERENCE / FINDINGS_FILE).read_bytes())

    page = Path(draw_html_report(store, read_trials(store), ())).read_text()

    assert "<picture>" not in page
    assert "<details open><summary>All claims in numbers</summary>" in page
