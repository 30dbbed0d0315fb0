import re

import pandas as pd
import pytest

from dynrcnn_ray.report.table_text import table_to_markdown, table_to_text
from dynrcnn_ray.report.tables import build_table


@pytest.fixture
def plan(table3_store):
    return table3_store.plan("table3")


@pytest.fixture
def trials(table3_store):
    return table3_store.trials()


def with_failed(trials, *ids):
    """The trials as they stand if some have failed; what they measured goes with it."""
    changed = trials.copy()
    changed.loc[changed["trial_id"].isin(ids), "status"] = "failed"
    changed.loc[changed["trial_id"].isin(ids), ["AP", "AP50", "AP90"]] = None
    return changed


def cells_of(text):
    """The cells of every line of a Markdown text that belongs to a table, one list a table."""
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [[[cell.strip() for cell in line.strip("|").split("|")] for line in lines.splitlines()] for lines in tables]


def test_markdown_sets_the_papers_numbers_right_below_the_measured_ones(plan, trials):
    text = table_to_markdown(build_table(plan, with_failed(trials, "row2seed0")), plan)
    lines = text.splitlines()

    assert lines[0] == "**Table 3. Effects of each component**"
    cells, *_ = cells_of(text)
    assert cells[0] == ["DLA", "DSL", "", "n", "AP", "ΔAP", "AP50", "AP90"]
    assert cells[2] == ["", "", "measured", "3", "50.0 ± 0.3", "-", "80.0 ± 0.0", "9.0 ± 0.0"]
    assert cells[3] == ["", "", "paper", "", "37.0", "-", "58.0", "9.7"]
    assert cells[6] == ["✓", "", "measured", "2 of 3", "52.1 ± 0.2", "+2.0", "80.0 ± 0.0", "11.0 ± 0.0"]
    assert cells[9] == ["", "", "paper", "", "38.9", "+1.9", "57.3", "15.2"]
    measured, paper = (line for line in lines if "| 50.0" in line or "| 37.0" in line)
    assert measured.index("50.0") == paper.index("37.0")
    first_table = lines[2 : 2 + len(cells)]
    assert len({len(line) for line in first_table}) == 1


def test_caption_names_scale_seeds_command_and_where_the_numbers_come_from(plan, trials):
    table = build_table(plan, trials)

    for text in (table_to_markdown(table, plan), table_to_text(table, plan)):
        assert "Scale mini; seeds 0, 1, 2; command: " in text
        assert "python experiments/main.py table3" in text
        assert "the paper's own numbers, on COCO" in text
        assert "measured here, at scale mini" in text


def test_the_course_of_algorithm_1_stands_below_the_table(plan, trials):
    told = trials.assign(
        final_T_now=0.625, final_beta_now=0.14, final_positives=19.25, kept_iou_updates=0, kept_beta_updates=30
    )
    table = build_table(plan, with_failed(told, *[f"row1seed{seed}" for seed in range(3)]))
    assert table["final_positives"].dropna().tolist() == [19.25] * 3
    for text in (table_to_text(table, plan), table_to_markdown(table, plan)):
        course = text[text.index("Algorithm 1 in the last step") :]
        (line,) = [line for line in course.splitlines() if "DLA + DSL" in line]
        assert line.replace("|", " ").split() == ["DLA", "+", "DSL", "0.625", "0.14", "19.2", "0", "30"]
        assert "failed" not in course


def test_differences_stand_below_with_interval_mark_and_the_papers(write_table):
    plan, trials = write_table(
        ({}, {0: {"AP": 50.0, "AP90": 9.0}, 1: {"AP": 50.5, "AP90": 9.0}, 2: {"AP": 49.0, "AP90": 9.0}}),
        ({}, {0: {"AP": 52.0, "AP90": 9.0}, 1: {"AP": 52.6, "AP90": 8.0}, 2: {"AP": 51.2, "AP90": 11.5}}),
        ({}, {0: {"AP": 53.0, "AP90": 8.5}, 1: None}),
    )
    table = build_table(plan, trials)

    main, differences, _ = cells_of(table_to_markdown(table, plan))

    assert [line[5] for line in main[2:]] == ["-", "-", "+2.1", "+1.0", "+3.0", "+1.2"]
    # AP: 2.0, 2.1 and 2.2, mean 2.1 and deviation 0.1; AP90: 0, -1 and 2.5, mean 0.5 and deviation 1.803.
    assert differences[0] == ["", "", "n", "AP", "AP50", "AP90"]
    assert differences[2:] == [
        ["DSL", "measured", "3", "+2.1 [+1.9, +2.3]", "+0.0 [+0.0, +0.0] ≈0", "+0.5 [-4.0, +5.0] ≈0"],
        ["", "paper", "", "+1.0", "-0.4", "+3.5"],
        ["DLA", "measured", "1", "+3.0", "+0.0", "-0.5"],
        ["", "paper", "", "+1.2", "-0.5", "+2.9"],
    ]
    for text in (table_to_markdown(table, plan), table_to_text(table, plan)):
        assert "Differences to the baseline, paired by seed:" in text
        assert "95 % interval by the paired t-test (scipy.stats.ttest_rel)" in text
        assert "≈0: the interval, before rounding, holds zero" in text
        assert "An interval without width" in text
        assert "A difference over one seed has no interval" in text


def test_seeds_that_agree_by_chance_tell_nothing_from_zero(write_table):
    """Two differences of zero have no spread: 0.0 would say that any difference at all is told."""
    plan, trials = write_table(
        ({}, {0: {"AP": 0.0, "AP90": 1.0}, 1: {"AP": 0.0, "AP90": 1.5}}),
        ({}, {0: {"AP": 0.0, "AP90": 2.0}, 1: {"AP": 0.0, "AP90": 3.0}}),
    )
    tables = cells_of(table_to_markdown(build_table(plan, trials), plan))
    told, needed = (
        line
        for table in tables
        for line in table
        if line[:2] in (["DSL", "told from zero"],) or "seeds for the paper's" in line
    )
    assert told[3:5] == ["-", "-"]
    assert needed[3:5] == ["-", "-"]
    assert re.fullmatch(r"\d+\.\d", told[5])


def test_a_difference_in_the_main_table_carries_its_mark(write_table):
    plan, trials = write_table(
        ({}, {0: {"AP": 50.0}, 1: {"AP": 50.0}}),
        ({}, {0: {"AP": 51.0}, 1: {"AP": 49.5}}),
        ({}, {0: {"AP": 51.0}, 1: {"AP": 51.1}}),
    )

    main, *_ = cells_of(table_to_markdown(build_table(plan, trials), plan))

    assert [line[5] for line in main[2:]] == ["-", "-", "+0.2 ≈0", "+1.0", "+1.1", "+1.2"]


def test_one_seed_shows_no_interval_and_says_so(write_table):
    plan, trials = write_table(({}, {0: {"AP": 50.0}}), ({}, {0: {"AP": 51.0}}))
    table = build_table(plan, trials)

    for text in (table_to_markdown(table, plan), table_to_text(table, plan)):
        assert "A difference over one seed has no interval: it may be chance." in text
        assert "+1.0" in text
        for absent in ("paired by seed", "≈0", "±", "t-test", "nan"):
            assert absent not in text


def test_a_table_without_a_baseline_has_no_differences(write_table):
    rows = [({"baseline_row": None}, {0: {"AP": value}, 1: {"AP": value + 1}}) for value in (50.0, 52.0)]
    plan, trials = write_table(*rows)

    text = table_to_markdown(build_table(plan, trials), plan)

    assert "± is the sample standard deviation" in text
    for absent in ("Δ", "Differences", "difference over"):
        assert absent not in text


@pytest.mark.parametrize(
    ("splits", "told"),
    [
        (["minival", "minival"], "on COCO minival; "),
        (["test-dev", "minival"], "on COCO test-dev and minival; "),
        ([None, None], "on COCO; "),
    ],
)
def test_the_caption_names_the_papers_split(write_table, splits, told):
    plan, trials = write_table(*[({"paper_split": split}, {0: {"AP": 50.0}}) for split in splits])

    assert f"the paper's own numbers, {told}" in table_to_markdown(build_table(plan, trials), plan)


def test_a_column_that_no_seed_measured_shows_dashes_and_no_nan(write_table):
    nothing = {"AP": 50.0, "AP50": None}
    plan, trials = write_table(({}, {0: nothing, 1: nothing}), ({}, {0: nothing, 1: nothing}))
    table = build_table(plan, trials)

    assert pd.isna(table["delta_AP50_low"]).all()
    _, differences, *_ = cells_of(table_to_markdown(table, plan))
    assert differences[2][4] == "-"
    assert "nan" not in table_to_text(table, plan)
