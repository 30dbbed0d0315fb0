"""Claims in lines: what each means, and what is refused in one line that says where and what is allowed."""

import html
import math
import re
from pathlib import Path

import pytest

from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.report.claim_lines import read_line
from dynrcnn_ray.report.claim_rows import ClaimRow, RowNames
from dynrcnn_ray.report.findings import Contrast
from dynrcnn_ray.report.stated_claims import StatedClaim, stated_claims

DOCUMENTED = Path(__file__).resolve().parents[2] / "docs" / "claims.md"
GAIN, LOSS = (0.0, math.inf), (-math.inf, 0.0)


def table(*labels: dict[str, str], **others) -> RowNames:
    return RowNames.of_table([ClaimRow(each, {"AP": 40.0 + row}, **others) for row, each in enumerate(labels)])


SETTINGS = table(*({"Setting": name} for name in ("baseline", "k64", "k75", "k100", "both", "DLA", "DSL", "DLA + DSL")))
AXES = table(
    *({"dsl": dsl, "iou_top_k": k, "size": size} for dsl in ("✓", "") for k in ("64", "640") for size in ("1, 2", "3"))
)


def meant(line: str, rows: RowNames = SETTINGS) -> list[tuple[str, dict[str, float], tuple[float, float]]]:
    """Of each contrast its metric, the weight of each row by its name, and its range."""
    return [
        (each.metric, {rows.names[term.row]: term.weight for term in each.terms}, (each.above, each.below))
        for each in read_line(line, rows).contrasts
    ]


def pair(first: str, second: str) -> dict[str, float]:
    return {first: 1.0, second: -1.0}


@pytest.mark.parametrize(
    ("line", "contrasts"),
    [
        ("AP: both > baseline", [("AP", pair("both", "baseline"), GAIN)]),
        ("AP:both>baseline", [("AP", pair("both", "baseline"), GAIN)]),
        ("AP: both < baseline", [("AP", pair("both", "baseline"), LOSS)]),
        ("AP: both >= baseline", [("AP", pair("both", "baseline"), GAIN)]),
        ("AP90: both - baseline > 0.5", [("AP90", pair("both", "baseline"), (0.5, math.inf))]),
        ("AP90: 0.5 < both - baseline", [("AP90", pair("both", "baseline"), (0.5, math.inf))]),
        ("AP: both >= baseline - 0.5", [("AP", pair("both", "baseline"), (-0.5, math.inf))]),
        ("AP: both + .5 > baseline", [("AP", pair("both", "baseline"), (-0.5, math.inf))]),
        ("AP50: |both - baseline| < 1", [("AP50", pair("both", "baseline"), (-1.0, 1.0))]),
        ("AP50: 1 > |both - baseline|", [("AP50", pair("both", "baseline"), (-1.0, 1.0))]),
        ("AP: both > 40", [("AP", {"both": 1.0}, (40.0, math.inf))]),
        ("AP: 40 > both", [("AP", {"both": 1.0}, (-math.inf, 40.0))]),
        ("AP: k64 > k75 > k100", [("AP", pair("k64", "k75"), GAIN), ("AP", pair("k75", "k100"), GAIN)]),
        (
            "AP: k64, k75 > baseline, k100 + 0",
            [("AP", pair(row, other), GAIN) for row in ("k64", "k75") for other in ("baseline", "k100")],
        ),
        (
            "AP, AP90: both > k64; k75 < k100",
            [
                *((metric, pair("both", "k64"), GAIN) for metric in ("AP", "AP90")),
                *((metric, pair("k75", "k100"), LOSS) for metric in ("AP", "AP90")),
            ],
        ),
        (
            "AP: k64 < baseline; AP90: k64 > baseline",
            [("AP", pair("k64", "baseline"), LOSS), ("AP90", pair("k64", "baseline"), GAIN)],
        ),
    ],
)
def test_what_a_line_means(line: str, contrasts: list):
    assert meant(line) == contrasts


def test_the_documented_lines_are_read():
    lines = re.findall(r"^\| (?:`|<code>)(.+?)(?:`|</code>)", DOCUMENTED.read_text(), re.MULTILINE)
    assert len(lines) >= 12
    for line in lines:
        assert read_line(html.unescape(line), SETTINGS).contrasts


def test_the_longest_name_that_fits_is_meant_and_quotes_say_where_one_ends():
    assert meant("AP: DLA + DSL > DSL")[0][1] == pair("DLA + DSL", "DSL")
    assert meant("AP: DLA+DSL > DSL")[0][1] == pair("DLA + DSL", "DSL")
    ((_, weights, _),) = meant("AP: 'DLA' + \"DSL\" > both + baseline")
    assert weights == {"DLA": 1.0, "DSL": 1.0, "both": -1.0, "baseline": -1.0}
    assert meant("AP: k64 > k75", table({"Setting": "k6"}, {"Setting": "k64"}, {"Setting": "k75"}))[0][1] == pair(
        "k64", "k75"
    )


def test_a_sum_that_no_one_means_is_refused():
    """Written the other way round, a row's name is two rows: their sum beats a single row whatever comes out."""
    with pytest.raises(ConfigError, match=r"'DSL \+ DLA - baseline' is no difference: .*rows: 'baseline', 'k64'"):
        read_line("AP: DSL + DLA > baseline", SETTINGS)


def test_rows_of_several_columns_stand_by_their_names_or_by_cells_in_brackets():
    name, other = "dsl, iou_top_k = 64, size = 3", "iou_top_k = 640, size = 1, 2"
    assert name in AXES.names.values()
    assert meant(f"AP: {name} > {other}", AXES)[0][1] == pair(name, other)
    line = "AP: [iou_top_k = 64, size=3, dsl] > [no dsl, size = 1, 2, iou_top_k=640]"
    assert meant(line, AXES)[0][1] == pair(name, other)


def test_a_cell_that_only_one_row_has_is_its_name():
    rows = table({"Backbone": "R-50", "K_I": "64"}, {"Backbone": "R-50", "K_I": "75"})
    assert meant("AP: K_I = 64 > K_I=75", rows)[0][1] == pair("K_I = 64", "K_I = 75")
    assert meant("AP: [Backbone = R-50, K_I = 64] > K_I = 75", rows)[0][1] == pair("K_I = 64", "K_I = 75")


def test_a_row_that_is_called_like_a_number_stands_in_quotes():
    rows = table({"Setting": "64"}, {"Setting": "75"})
    assert meant("AP: '64' - \"75\" > 64", rows) == [("AP", pair("64", "75"), (64.0, math.inf))]
    with pytest.raises(ConfigError, match="one that is called like a number stands in quotes"):
        read_line("AP: 64 > 75", rows)


def test_early_and_late_numbers_and_differences_of_numbers():
    (rise,) = read_line("late T_now - early T_now: both > 0", SETTINGS).contrasts
    assert [(term.row, term.measure, term.weight) for term in rise.terms] == [
        (4, "late T_now", 1.0),
        (4, "early T_now", -1.0),
    ]
    assert (rise.text, rise.metric, rise.unit) == ("both", "late T_now - early T_now", "IoU")
    (more,) = read_line("AP90 - AP50: both > baseline", SETTINGS).contrasts
    assert {(term.row, term.measure): term.weight for term in more.terms} == {
        (4, "AP90"): 1.0,
        (0, "AP90"): -1.0,
        (4, "AP50"): -1.0,
        (0, "AP50"): 1.0,
    }
    (offsets,) = read_line("late sigma of dx at IoU 0.6: both < baseline", SETTINGS).contrasts
    assert (offsets.metric, offsets.unit) == ("late sigma of dx at IoU 0.6", "offset")


def test_a_contrast_knows_its_text_and_what_a_paper_reports():
    (contrast,) = read_line("AP: k64 < baseline", SETTINGS).contrasts
    assert (contrast.text, contrast.unit, contrast.paper) == ("k64 against baseline", "percent", 1.0)
    (contrast,) = read_line("AP50: both - k64 > k75 - baseline", SETTINGS).contrasts
    assert contrast.text == "both - k64 - k75 + baseline"
    assert math.isnan(contrast.paper)


def test_rows_of_masks_have_the_masks_numbers():
    rows = table({"Setting": "a"}, {"Setting": "b"}, metric_prefix="segm_")

    def measures(contrast: Contrast) -> set[str]:
        return {term.measure for term in contrast.terms}

    assert measures(read_line("AP: a > b", rows).contrasts[0]) == {"segm_AP"}
    assert measures(read_line("segm_AP: a > b", rows).contrasts[0]) == {"segm_AP"}
    assert measures(read_line("late AP: a > b", rows).contrasts[0]) == {"late AP"}


@pytest.mark.parametrize(
    ("line", "place", "message"),
    [
        ("", 1, "it begins with no metric"),
        ("both > baseline", 1, "it begins with no metric, such as 'AP: '; allowed: AP, AP50"),
        ("|both - baseline| < 1", 1, "it begins with no metric"),
        ("AP55: both > baseline", 1, "'AP55' is no metric; allowed: AP, AP50"),
        ("ap: both > baseline", 1, "'ap' is no metric"),
        ("AP, foo: both > baseline", 5, "'foo' is no metric"),
        ("AP - late T_now: both > baseline", 1, "AP and late T_now have other units: percent and IoU"),
        ("AP - AP: both > baseline", 1, "it sets a metric against itself"),
        ("AP: basline < both", 5, "'basline' is no row; did you mean 'baseline'?; rows: 'baseline', 'k64'"),
        ("AP: both >", 11, "'the end' where a row or a number is expected"),
        ("AP: both", 9, "'the end' where >, <, >= or <= is expected"),
        ("AP: both = baseline", 10, "'=' cannot be shown; claim a difference below a margin"),
        ("AP: both > k64 < k75", 16, "'<' turns the chain round"),
        ("AP: both > both", 5, "it sets a row against itself"),
        ("AP: |both - both| < 1", 5, "it sets a row against itself"),
        ("AP: 1 < 2", 5, "it names no row"),
        ("AP: |both - baseline| > 1", 5, "|...| can only be claimed to be below a number"),
        ("AP: |both - baseline| < k64", 5, "|...| can only be claimed to be below a number"),
        ("AP: |both - baseline| < 0", 5, "no size lies below 0; give a margin above zero"),
        ("AP: |both - baseline < 1", 22, "'< 1' where '|' is expected"),
        ("AP: both > baseline + 100", 5, "it can never hold: both against baseline lies between -100 and 100 percent"),
        ("AP: |both - baseline| < 101", 5, "it always holds"),
        ("AP: both > k64, baseline + 1", 12, "a number belongs to one of several rows alone"),
        ("AP: both > baseline AP90: both > k64", 21, "'AP90: both > k64' is not understood"),
        ("AP: both > baseline; foo > k64", 22, "'foo' is no row"),
        ("AP: 'both > baseline", 5, "the quote ' has no end"),
        ("AP: 'bot' > baseline", 5, "'bot' is no row"),
        ("AP: [both, foo] > baseline", 12, "'foo' is no cell of a row; allowed: 'baseline', 'Setting = baseline'"),
        ("AP: [both, k64] > baseline", 5, "no row has all of 'both, k64'"),
        ("AP: [both > baseline", 11, "'> baseline' where ',' or ']' is expected"),
    ],
)
def test_a_mistake_is_told_in_one_line_with_its_place(line: str, place: int, message: str):
    with pytest.raises(ConfigError) as error:
        read_line(line, SETTINGS)
    told = str(error.value)
    assert told.startswith(f"claims: {line!r}, character {place}: {message}"), told
    assert "\n" not in told


def test_a_reference_that_may_be_several_rows_names_them():
    with pytest.raises(ConfigError, match=r"'no dsl, size = 3' may be each of 'iou_top_k = 64, size = 3', 'iou_top_k"):
        read_line("AP: [no dsl, size = 3] > 40", AXES)
    with pytest.raises(ConfigError, match="'no dsl' may be each of"):
        read_line("AP: no dsl > 40", AXES)


@pytest.mark.parametrize(
    "line", ["AP: [dsl, iou_top_k=64, size = 3] > iou_top_k = 64, size = 3", "AP: 'iou_top_k = 64, size = 3' > 4"]
)
def test_a_line_is_read_again_from_its_own_references(line: str):
    """What was locked is judged where names may have changed since: the texts stand for the rows that they meant."""
    first = read_line(line, AXES)
    rows = {place: AXES.rows[place] for place in first.references.values()}
    again = read_line(line, RowNames.of_references(rows, first.references))
    assert again.references == first.references
    assert [each.terms for each in again.contrasts] == [each.terms for each in first.contrasts]


def test_claims_are_lines_mappings_or_one_text():
    both = StatedClaim("AP: both > baseline; AP90: both > k64", "Both gain")
    given = ["AP:  k64 > k75", {"AP": "both > baseline", "claim": "Both gain", "AP90": "both > k64"}]
    assert stated_claims(given) == [StatedClaim("AP: k64 > k75"), both]
    assert stated_claims("AP: k64 > k75\n\n  AP50: |k64 - k75| < 1\n") == [
        StatedClaim("AP: k64 > k75"),
        StatedClaim("AP50: |k64 - k75| < 1"),
    ]
    assert stated_claims(()) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "claims: 3 must be a list of claims"),
        ({"AP": "a > b"}, "must be a list of claims"),
        ([3], "claims: 3 must be a line such as 'AP: both > baseline'"),
        ([{}], "must be a line such as"),
        ([{"AP": 3}], "must be a line such as"),
        ([{"claim": "Both gain"}], "claims: 'Both gain' has words alone; add what is compared"),
        (["AP: a > b", "AP:  a > b"], "claims: 'AP: a > b' stands twice"),
    ],
)
def test_claims_that_are_none_are_refused(given, message: str):
    with pytest.raises(ConfigError) as error:
        stated_claims(given)
    assert message in str(error.value)
