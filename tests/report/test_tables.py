import io
import math

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from dynrcnn_ray.report.table_cells import make_cells
from dynrcnn_ray.report.table_text import table_to_markdown, table_to_text
from dynrcnn_ray.report.tables import build_table, table_to_parquet_bytes
from dynrcnn_ray.store.labels import row_label


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
    assert row["delta_AP90"] == pytest.approx(3.0)
    assert row["delta_AP90_paper"] == pytest.approx(5.5)
    assert row["delta_n"] == 3
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


def test_a_row_of_which_a_seed_runs_is_running(plan, trials):
    running = with_status(with_status(trials, 1, "failed"), 1, "running", seeds=(1,))
    table = build_table(plan, with_status(running, 2, "running", seeds=(1, 2)))
    assert table["status"].tolist() == ["finished", "running", "finished", "finished"]
    assert table["n"].tolist() == [3, 0, 1, 3]


def test_a_table_before_its_first_trial(plan, trials):
    table = build_table(plan, trials.iloc[:0])

    assert table["n"].tolist() == [0, 0, 0, 0]
    assert table["AP"].isna().all()
    assert "not run yet" in table_to_text(table, plan)
    assert pq.read_table(io.BytesIO(table_to_parquet_bytes(table, plan))).num_rows == 4


def test_a_row_that_only_the_paper_reports(write_table):
    plan, trials = write_table(
        ({}, {0: {"AP": 50.0}}),
        ({"labels": {"DLA": "Cascade"}, "reported": {"AP": 40.3, "AP50": None}, "baseline_row": None}, {}),
        ({"labels": {"DLA": "Other"}, "reported": {}, "baseline_row": None}, {}),
    )

    table = build_table(plan, trials)

    assert table["source"].tolist() == ["measured", "reported", "reported"]
    assert table["status"].tolist() == ["finished", "reported", "reported"]
    assert table["DSL"].tolist() == ["", "-", "-"]
    assert table.loc[1, ["AP", "AP50_paper", "AP90_paper", "delta_AP", "delta_AP_paper"]].isna().all()
    for name, number in {"Cascade": "40.3", "Other": "-"}.items():
        [line] = [line for line in table_to_markdown(table, plan).splitlines() if f"| {name} " in line]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells == [name, "-", "paper", "", number, "-", "-", "-"]
    assert pq.read_table(io.BytesIO(table_to_parquet_bytes(table, plan)))["AP50_paper"][1].as_py() is None


def test_a_table_of_reported_rows_alone_has_a_line_a_row(write_table):
    names = ["RetinaNet [26]", "CornerNet [21]", "Regionlets [43]"]
    rows = [({"labels": {"Method": name}, "reported": {"AP": 39.0}, "baseline_row": None}, {}) for name in names]
    plan, trials = write_table(*rows)

    text = table_to_text(build_table(plan, trials), plan)

    lines = [line for line in text.splitlines() if "39.0" in line]
    assert [line.split("  ")[0].strip() for line in lines] == names
    assert "measured" not in text
    assert "ΔAP" not in text


def test_differences_are_paired_by_the_seeds_that_both_have_finished(write_table):
    plan, trials = write_table(
        ({}, {0: {"AP": 50.0}, 1: {"AP": 60.0}, 2: None, 3: {"AP": 54.0}, 4: {"AP": 10.0}}),
        ({}, {0: {"AP": 51.0}, 1: {"AP": 63.0}, 2: {"AP": 90.0}, 3: {"AP": 56.0}, 4: {}}),
        ({}, {0: None, 1: {"AP": 58.0}, 2: {"AP": 1.0}}),
        ({}, {2: {"AP": 58.0}, 5: {"AP": 1.0}}),
    )

    table = build_table(plan, trials)

    assert table["n"].tolist() == [4, 4, 2, 2]
    assert table["delta_n"].tolist() == [4, 3, 1, 0]
    # Differences 1, 3, 2: mean 2, deviation 1; Student's t for 2 degrees of freedom at 0.975 is 4.302653.
    ends = 2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)
    assert table.loc[1, ["delta_AP", "delta_AP_low", "delta_AP_high"]].tolist() == pytest.approx([2.0, *ends])
    assert table["delta_AP"][2] == pytest.approx(-2.0)
    assert table.loc[2, ["delta_AP_low", "delta_AP_high"]].isna().all()
    assert table.loc[3, ["delta_AP", "delta_AP_low", "delta_AP_high"]].isna().all()
    assert table["delta_AP90"].tolist()[:2] == [0.0, 0.0]


def test_each_row_has_its_own_baseline(write_table):
    plan, trials = write_table(
        ({"baseline_row": 0}, {0: {"AP": 50.0}, 1: {"AP": 51.0}}),
        ({"baseline_row": 2}, {0: {"AP": 44.0}, 1: {"AP": 46.0}}),
        ({"baseline_row": 2}, {0: {"AP": 40.0}, 1: {"AP": 41.0}}),
        ({"baseline_row": 0}, {0: {"AP": 53.0}, 1: {"AP": 55.0}}),
    )

    table = build_table(plan, trials)

    assert table["delta_AP"].tolist() == pytest.approx([0.0, 4.5, 0.0, 3.5])
    assert table["delta_AP_paper"].tolist() == pytest.approx([0.0, 38.0 - 38.2, 0.0, 38.9 - 37.0])
    grid = make_cells(table, plan).grids[1]
    assert [column.title for column in grid.columns][:4] == ["", "baseline", "", "n"]
    names = [[cell.text for cell in line.cells[:3]] for line in grid.lines if not line.is_paper]
    assert names == [["DSL", "DLA", "measured"], ["DLA + DSL", "baseline", "measured"]]


def test_rows_measured_on_masks_come_from_the_same_trials(write_table):
    measured = {seed: {"AP": 40.0 + seed, "segm_AP": 35.0 + 2 * seed, "segm_AP50": 55.0} for seed in (0, 1)}
    better = {seed: {"AP": 42.0 + seed, "segm_AP": 35.5 + 3 * seed, "segm_AP50": 55.0} for seed in (0, 1)}
    box, mask = {"Task": "bbox"}, {"Task": "segm"}
    on_masks = {"metric_prefix": "segm_", "paper_split": "minival"}
    plan, trials = write_table(
        ({"labels": box, "baseline_row": 0}, measured),
        ({"labels": box | {"+Dynamic": "✓"}, "baseline_row": 0}, better),
    )
    segm = [
        line | on_masks | {"row": line["row"] + 2, "baseline_row": 2, "labels": mask}
        for line in plan.to_dict("records")
    ]
    plan = pd.concat([plan, pd.DataFrame(segm)], ignore_index=True)

    table = build_table(plan, trials)

    assert table["AP"].tolist() == pytest.approx([40.5, 42.5, 36.0, 37.0])
    assert table["AP50"].tolist() == pytest.approx([80.0, 80.0, 55.0, 55.0])
    assert table["AP90"].isna().tolist() == [False, False, True, True]
    assert table["delta_AP"].tolist() == pytest.approx([0.0, 2.0, 0.0, 1.0])
    assert "on COCO minival; " in table_to_markdown(table, plan)
    pq.read_table(io.BytesIO(table_to_parquet_bytes(table, plan)))


def test_the_order_of_seeds_and_trials_changes_nothing(write_table):
    rng = np.random.default_rng(0)
    rows = [({}, {seed: {"AP": rng.normal(50), "AP90": rng.normal(9)} for seed in range(5)}) for _ in range(4)]
    plan, trials = write_table(*rows)
    table = build_table(plan, trials)

    for state in range(10):
        shuffled = build_table(plan.sample(frac=1, random_state=state), trials.sample(frac=1, random_state=state))
        # Sums over seeds are exact, or in the seeds' order: not a digit differs.
        pd.testing.assert_frame_equal(shuffled, table, check_exact=True)


def test_renaming_the_seeds_of_all_rows_changes_nothing(write_table):
    rng = np.random.default_rng(1)
    values = rng.normal(50, 1, (4, 5))
    for order in [(0, 1, 2, 3, 4), (3, 0, 4, 1, 2)]:
        rows = [({}, {seed: {"AP": value} for seed, value in zip(order, row, strict=True)}) for row in values]
        table = build_table(*write_table(*rows))
        differences = table.loc[1:, ["delta_AP", "delta_AP_low", "delta_AP_high"]].to_numpy()
        if order == (0, 1, 2, 3, 4):
            expected = differences
        assert differences == pytest.approx(expected, abs=1e-10)
    assert differences[:, 0] == pytest.approx((values[1:] - values[0]).mean(axis=1))


def test_parquet_carries_units_and_no_index(plan, trials):
    table = build_table(plan, trials)
    read = pq.read_table(io.BytesIO(table_to_parquet_bytes(table, plan)))

    assert read.column_names == list(table.columns)
    for name in ("AP_std", "delta_AP", "delta_AP50_low", "delta_AP50_high", "delta_AP90_paper"):
        assert read.schema.field(name).metadata[b"unit"] == b"percent"
    assert read.schema.field("delta_n").metadata[b"unit"] == b"seeds"
    assert read["AP"].to_pylist() == pytest.approx([50.0, 51.0, 52.0, 53.0])


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ({"DLA": "", "DSL": ""}, "baseline"),
        ({"DLA": "✓", "DSL": "✓"}, "DLA + DSL"),
        ({"K_I": "64"}, "K_I = 64"),
        ({"Setting": "β = 2.0", "K_β": "-"}, "β = 2.0"),
        ({"Method": "RetinaNet", "Backbone": "ResNet-101"}, "RetinaNet, ResNet-101"),
        ({"Backbone": "ResNet-50-FPN", "Task": "segm", "+Dynamic": "✓"}, "+Dynamic, ResNet-50-FPN, segm"),
    ],
)
def test_row_label(labels, name):
    assert row_label(labels) == name
