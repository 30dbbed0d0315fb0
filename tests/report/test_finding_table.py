"""The verdicts as a file and as cells."""

import io
import math
import re

import pyarrow.parquet as pq
import pytest

from dynrcnn_ray.report.finding_table import FINDINGS, FINDINGS_FILE, finding_cells, findings_parquet, headline
from dynrcnn_ray.report.findings import RATIO, Claim, Contrast, Term, judge
from dynrcnn_ray.report.html.page import draw_html_report, read_trials
from dynrcnn_ray.report.table_latex import cells_to_latex
from dynrcnn_ray.report.table_text import cells_to_markdown, cells_to_text
from dynrcnn_ray.report.trial_numbers import NumbersOfRow, SpeedOfModel
from dynrcnn_ray.store.parquet import from_parquet_bytes
from dynrcnn_ray.store.results_store import ResultStore


def gain(row, paper=1.0, above=0.0, below=math.inf, metric="AP", unit="percent"):
    return Contrast(
        f"row {row} against baseline", metric, unit, (Term(row, metric, 1, paper), Term(0, metric, -1, 0)), above, below
    )


TABLE3 = "Table 3, Section 5.4. Effects of each component"
CLAIMS = [
    Claim("table3", TABLE3, "Both gain AP", (gain(1), gain(2, paper=1.9))),
    Claim("table3", TABLE3, "K_β & AP50 do not matter", (gain(1, 0.2, -1.0, 1.0),)),
    Claim("table3", TABLE3, "It does not gain", (gain(3, -0.7, -math.inf, 0.5),)),
    Claim("figure5", "Figure 5, Section 5.4. Trends", "T_now falls", (gain(1, math.nan, -math.inf, 0.0, "T", "IoU"),)),
    Claim(
        "table7",
        "Table 7, Section 5.5. Speed",
        "Faster",
        (Contrast("tiny", "speed", RATIO, (Term(0, "inference", 1, 13.9), Term(1, "inference", -1, 11.2)), above=1.0),),
    ),
]


@pytest.fixture
def content() -> bytes:
    def row(metric, *values):
        return NumbersOfRow(trials={seed: {metric: value} for seed, value in enumerate(values)}, scale="mini")

    numbers = {
        "table3": {
            0: row("AP", 50, 51, 52, 53, 54),
            1: row("AP", 52, 53.1, 53.9, 55, 56),
            2: row("AP", 51, 52.1, 53.2, 54.1, 55.1),
            3: row("AP"),
        },
        "figure5": {0: row("T", 0.4, 0.41, 0.42, 0.43, 0.44), 1: row("T", 0.6, 0.612, 0.621, 0.631, 0.641)},
        "table7": {
            index: NumbersOfRow({}, {"inference": SpeedOfModel(20 / (index + 1), 9, 11, 40)}) for index in (0, 1)
        },
    }
    return findings_parquet(judge(CLAIMS, numbers), "python main.py findings", 9)


@pytest.fixture
def rows(content):
    return from_parquet_bytes(content, FINDINGS).to_pylist()


def test_a_row_for_each_contrast_with_units_and_the_claims_verdict(rows):
    assert [row["finding"] for row in rows] == [0, 0, 1, 2, 3, 4]
    assert [row["verdict"] for row in rows] == [
        *["confirmed"] * 2,
        "contradicted",
        "not measured",
        "contradicted",
        "confirmed",
    ]
    first, second, same, missing, trend, speed = rows
    assert first["measured"] == pytest.approx(2.0)
    assert (first["low"] < 2.0 < first["high"], first["n"], first["contrast_verdict"]) == (True, 5, "confirmed")
    assert (first["seeds"], first["next_look"], first["chance"], first["seeds_needed"] < 5) == (5, 8, 1.0, True)
    assert (speed["seeds"], speed["next_look"], speed["chance"], speed["seeds_needed"]) == (None,) * 4
    assert (first["claimed_above"], first["claimed_below"]) == (0.0, None)
    assert second["paper"] == pytest.approx(1.9)
    assert (same["claimed_above"], same["claimed_below"]) == (-1.0, 1.0)
    assert (missing["measured"], missing["low"], missing["p"], missing["n"]) == (None, None, None, 0)
    assert (missing["scale"], first["scale"]) == ("mini", "mini")
    assert (trend["unit"], trend["paper"], trend["measured"]) == ("IoU", None, pytest.approx(0.201))
    assert speed["measured"] == pytest.approx(2.0)
    assert speed["paper"] == pytest.approx(13.9 / 11.2)
    assert speed["low"] < 2.0 < speed["high"]


def test_any_reader_finds_units_in_the_file():
    content = findings_parquet(judge(CLAIMS[:1], {"table3": {row: NumbersOfRow() for row in range(4)}}), "c", 0)
    schema = pq.read_schema(io.BytesIO(content))
    assert all(field.metadata[b"unit"] for field in schema)


def test_a_margin_about_another_value_than_zero_shows_both_ends(rows):
    _, _, same, *_ = rows
    shifted = {**same, "claimed_above": 0.5, "claimed_below": 1.5}

    text = cells_to_text(finding_cells([shifted]))

    assert "+0.5 to +1.5" in text
    assert "within" not in text.partition("Claimed is")[0]


def test_a_claim_of_equal_numbers_at_the_last_look_has_its_line(rows):
    """There is no interval then, nor a largest difference that may hide."""
    nothing = {name: None for name in ("low", "high", "next_look", "chance", "seeds_needed", "waits_for")}
    first = {**rows[4], **nothing, "finding": 0, "verdict": "undecided", "measured": 0.0, "n": 20, "seeds": 20}

    text = cells_to_text(finding_cells([first]))

    assert "undecided" in text
    assert "may hide" not in text.partition("Claimed is")[0]


def test_an_undecided_claim_says_which_seed_it_waits_for(rows):
    first = {**rows[4], "finding": 0, "verdict": "undecided", "next_look": 5, "waits_for": 2}

    assert "(waits for seed 2)" in cells_to_text(finding_cells([first]))


def test_the_headline_counts_claims_not_contrasts(rows):
    assert headline(rows).startswith(
        "Of 5 claims of the paper: 2 confirmed, 2 contradicted, 0 undecided, 1 not measured; after Holm's correction "
    )


def test_text_and_markdown_show_every_claim_and_what_was_claimed(rows):
    cells = finding_cells(rows)

    for text in (cells_to_text(cells), cells_to_markdown(cells)):
        for claim in CLAIMS:
            assert claim.words in text
        for told in ("within ±1", "< +0.5", "> 0", "> 1", "-0.7", "+0.201", "2.00", "1.24"):
            assert told in text, told
        assert "Not measured, or not all of it: table3." in text
        assert "nan" not in text
        assert "None" not in text
    counts = cells.grids[0]
    assert [[cell.text for cell in line.cells[:4]] for line in counts.lines] == [
        ["Table 3", "3", "1", "1"],
        ["Figure 5", "1", "-", "1"],
        ["Table 7", "1", "1", "-"],
        ["all", "5", "2", "2"],
    ]


def test_a_claim_of_several_contrasts_has_a_line_above_them(rows):
    _, table3, *_ = finding_cells(rows).grids

    texts = [[cell.text for cell in line.cells] for line in table3.lines]
    assert texts[0] == ["Both gain AP", *[""] * 6, "confirmed", texts[0][-1]]
    assert texts[1][:2] == ["· row 1 against baseline", "AP"]
    assert texts[1][-1] == ""
    assert [line.starts_row for line in table3.lines] == [True, False, False, True, True]


def test_latex_has_what_pdflatex_takes(rows):
    latex = cells_to_latex(finding_cells(rows))

    text = "\n".join(line for line in latex.splitlines() if not line.startswith("%"))
    assert text.isascii()
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 4
    assert r"K$_{\beta}$ \& AP$_{50}$ do not matter" in latex
    labels = re.findall(r"\\label{(.*)}", latex)
    assert labels[1:] == [f"tab:findings-claims-{name}" for name in ("table3", "figure5", "table7")]
    assert len(set(labels)) == 4
    assert re.findall(r"\\begin{tabular}{(p{[^}]*})", latex) == [r"p{0.34\textwidth}"] * 3


def test_html_marks_verdicts_for_colour(content, tmp_path):
    store = ResultStore.open(tmp_path)
    store.files.write_bytes(FINDINGS_FILE, content)
    draw_html_report(store, read_trials(store), ())
    html = (tmp_path / "report.html").read_text()

    for verdict in ("confirmed", "contradicted", "not-measured"):
        assert f'class="text {verdict}">{verdict.replace("-", " ")}' in html
    assert 'class="sentence">K_β &amp; AP50' in html


def claims_grid(*differences, below=math.inf):
    """The claims' lines where each contrast has measured these differences."""
    longest = max(len(each) for each in differences)
    rows = {0: NumbersOfRow({seed: {"AP": 50.0} for seed in range(longest)})} | {
        index: NumbersOfRow({seed: {"AP": 50.0 + value} for seed, value in enumerate(each)})
        for index, each in enumerate(differences, 1)
    }
    contrasts = tuple(gain(index, above=0.0 if below == math.inf else -below, below=below) for index in rows if index)
    judgements = judge([Claim("table3", TABLE3, "Gains", contrasts)], {"table3": rows})
    cells = finding_cells(from_parquet_bytes(findings_parquet(judgements, "c", 9), FINDINGS).to_pylist())
    columns = [column.title for column in cells.grids[1].columns]
    return [
        dict(zip(columns, (f"{cell.text} {cell.addition}".rstrip() for cell in line.cells), strict=True))
        for line in cells.grids[1].lines
    ]


def test_what_is_undecided_says_when_the_next_look_is():
    (before,) = claims_grid([1.0])
    (between,) = claims_grid([1.0, -1.0, 2.0, -2.0, 1.0, 7.0, 8.0])
    claim, *parts = claims_grid([1.0, -1.0, 2.0, -2.0, 1.0], [1.0, -1.0, 2.0])

    assert (before["n"], before["verdict"]) == ("1", "undecided (next look at 3 seeds)")
    assert (between["n"], between["verdict"]) == ("5 of 7", "undecided (next look at 8 seeds)")
    assert claim["verdict"] == "undecided (next look at 5 seeds)"
    assert [part["verdict"] for part in parts] == ["undecided", "undecided"]


def test_after_the_last_look_it_says_what_may_hide():
    differences = [0.5, -0.4] * 10

    (alone,) = claims_grid(differences)
    (within,) = claims_grid(differences, below=0.2)
    claim, first, second = claims_grid(differences, [value - 0.1 for value in differences])

    # 0.05 and -0.05 with a deviation of 0.46: half the interval is 2.48 x 0.46 / sqrt(20) = 0.26.
    assert alone["verdict"] == within["verdict"] == first["verdict"] == "undecided (up to +0.3 may hide)"
    assert second["verdict"] == "undecided (up to -0.3 may hide)"
    assert claim["verdict"] == "undecided"


def test_verdicts_of_an_earlier_release_are_not_explained_as_looks(rows):
    old = [row | {"seeds": None, "next_look": None, "chance": None} for row in rows]

    notes = finding_cells(old).notes

    assert any("an earlier release's" in note for note in notes)
    assert not any("Looks are" in note for note in notes)
    assert any("Looks are after 3, 5, 8, 12 and 20 seeds" in note for note in finding_cells(rows).notes)
