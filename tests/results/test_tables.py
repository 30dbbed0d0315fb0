import io

import pandas as pd
import pyarrow.parquet as pq
import pytest

from dynrcnn_ray.results.labels import row_label
from dynrcnn_ray.results.table_text import table_to_markdown, table_to_text
from dynrcnn_ray.results.tables import build_table, table_to_parquet_bytes


@pytest.fixture
def plan(table3_store):
    return table3_store.plan("table3")


@pytest.fixture
def trials(table3_store):
    return table3_store.trials()


def with_status(trials, row, status, seeds=(0, 1, 2)):
    """The trials as they stand if some seeds of a row have another status; measured numbers go with it."""
    ids = [f"row{row}seed{seed}" for seed in seeds]
    changed = trials.copy()
    changed.loc[changed["trial_id"].isin(ids), "status"] = status
    changed.loc[changed["trial_id"].isin(ids), ["AP", "AP50", "AP90"]] = None
    return changed


def test_mean_spread_and_difference_over_three_seeds(plan, trials):
    table = build_table(plan, trials)

    # Row 3's seeds measured AP 52.7, 53.0 and 53.3; the baseline's mean is 50.0.
    row = table.iloc[3]
    assert row["DLA"] == row["DSL"] == "✓"
    assert (row["source"], row["status"], row["n"], row["n_planned"]) == ("measured", "finished", 3, 3)
    assert row["AP"] == pytest.approx(53.0)
    assert row["AP_std"] == pytest.approx(0.3)
    assert row["AP_paper"] == 38.9
    assert row["AP_minus_paper"] == pytest.approx(53.0 - 38.9)
    assert row["delta_AP"] == pytest.approx(3.0)
    assert row["delta_AP_paper"] == pytest.approx(1.9)
    assert table["delta_AP"][0] == 0


def test_columns_stand_in_the_papers_order(plan, trials):
    columns = list(build_table(plan, trials).columns)

    assert columns[:7] == ["row", "name", "DLA", "DSL", "source", "status", "n"]
    assert [name for name in columns if name in ("AP", "AP50", "AP90")] == ["AP", "AP50", "AP90"]


def test_one_seed_has_no_spread(plan, trials):
    table = build_table(plan, with_status(trials, 1, "failed", seeds=(1, 2)))

    assert table["n"][1] == 1
    assert table["status"][1] == "finished"
    assert table["AP"][1] == pytest.approx(50.7)
    assert pd.isna(table["AP_std"][1])


def test_failed_and_missing_rows_show_no_numbers(plan, trials):
    present = with_status(trials, 1, "failed")
    table = build_table(plan, present[~present["trial_id"].str.startswith("row2")])

    assert table["status"].tolist() == ["finished", "failed", "missing", "finished"]
    assert table["n"].tolist() == [3, 0, 0, 3]
    assert table.loc[[1, 2], ["AP", "AP_std", "AP_minus_paper", "delta_AP"]].isna().all(axis=None)
    assert table["AP_paper"].tolist() == [37.0, 38.0, 38.2, 38.9]


def test_a_table_before_its_first_trial(plan, trials):
    table = build_table(plan, trials.iloc[:0])

    assert table["n"].tolist() == [0, 0, 0, 0]
    assert table["AP"].isna().all()
    assert "not run yet" in table_to_text(table, plan)
    assert pq.read_table(io.BytesIO(table_to_parquet_bytes(table, plan))).num_rows == 4


def test_a_row_that_only_the_paper_reports(store, plan, trials):
    lines = [dict(line) for line in plan.drop(columns="experiment").to_dict("records") if line["row"] == 0]
    lines = [line | {"seed": int(line["seed"])} for line in lines]
    lines.append(lines[0] | {"row": 1, "labels": {"DLA": "Cascade"}, "trial_id": None, "seed": None})
    store.write_plan("table7", lines)
    plan7 = store.plan("table7")

    table = build_table(plan7, trials)

    assert table["source"].tolist() == ["measured", "reported"]
    assert table["DSL"].tolist() == ["", ""]
    assert pd.isna(table["AP"][1])
    [line] = [line for line in table_to_markdown(table, plan7).splitlines() if "Cascade" in line]
    assert "paper" in line
    assert "measured" not in line


def test_parquet_carries_units_and_no_index(plan, trials):
    table = build_table(plan, trials)
    read = pq.read_table(io.BytesIO(table_to_parquet_bytes(table, plan)))

    assert read.column_names == list(table.columns)
    assert read.schema.field("AP_std").metadata[b"unit"] == b"percent"
    assert read["AP"].to_pylist() == pytest.approx([50.0, 51.0, 52.0, 53.0])


def test_markdown_sets_the_papers_numbers_right_below_the_measured_ones(plan, trials):
    text = table_to_markdown(build_table(plan, with_status(trials, 2, "failed", seeds=(0,))), plan)
    lines = text.splitlines()

    assert lines[0] == "**Table 3. Effects of each component**"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert cells[0] == ["DLA", "DSL", "", "n", "AP", "ΔAP", "AP50", "AP90"]
    assert cells[2] == ["", "", "measured", "3", "50.0 ± 0.3", "-", "80.0 ± 0.0", "9.0 ± 0.0"]
    assert cells[3] == ["", "", "paper", "", "37.0", "-", "58.0", "9.7"]
    assert cells[6] == ["✓", "", "measured", "2 of 3", "52.1 ± 0.2", "+2.1", "80.0 ± 0.0", "11.0 ± 0.0"]
    assert cells[9] == ["", "", "paper", "", "38.9", "+1.9", "57.3", "15.2"]
    measured, paper = (line for line in lines if "| 50.0" in line or "| 37.0" in line)
    assert measured.index("50.0") == paper.index("37.0")
    assert len({len(line) for line in lines if line.startswith("|")}) == 1


def test_caption_names_scale_seeds_command_and_where_the_numbers_come_from(plan, trials):
    table = build_table(plan, trials)

    for text in (table_to_markdown(table, plan), table_to_text(table, plan)):
        assert "Scale mini; seeds 0, 1, 2; command: " in text
        assert "python experiments/main.py table3" in text
        assert "the paper's own numbers, on COCO" in text
        assert "measured here, at scale mini" in text


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ({"DLA": "", "DSL": ""}, "baseline"),
        ({"DLA": "✓", "DSL": "✓"}, "DLA + DSL"),
        ({"K_I": "64"}, "K_I = 64"),
        ({"Setting": "β = 2.0", "K_β": "-"}, "β = 2.0"),
    ],
)
def test_row_label(labels, name):
    assert row_label(labels) == name


def test_the_course_of_algorithm_1_stands_below_the_table(plan, trials):
    told = trials.assign(
        final_T_now=0.625, final_beta_now=0.14, final_positives=19.25, kept_iou_updates=0, kept_beta_updates=30
    )
    table = build_table(plan, with_status(told, 1, "failed"))
    assert table["final_positives"].dropna().tolist() == [19.25] * 3
    for text in (table_to_text(table, plan), table_to_markdown(table, plan)):
        course = text[text.index("Algorithm 1 after the last step") :]
        (line,) = [line for line in course.splitlines() if "DLA + DSL" in line]
        assert line.replace("|", " ").split() == ["DLA", "+", "DSL", "0.625", "0.14", "19.2", "0", "30"]
        assert "failed" not in course
