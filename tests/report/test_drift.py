"""How far shards drift apart, by hand and in the table."""

import io

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy import stats

from dynrcnn_ray.report.drift import with_drift
from dynrcnn_ray.report.drift_columns import DRIFT
from dynrcnn_ray.report.table_cells import make_cells
from dynrcnn_ray.report.table_notes import table_notes
from dynrcnn_ray.report.tables import build_table, table_to_parquet_bytes
from tests.stored_table import plan_row, trial_row

ONE, SHARED, ALONE = range(3)
ROWS = {ONE: ("1", ""), SHARED: ("2", "✓"), ALONE: ("2", "")}
T_NOW = {
    # The first step is before the first update: what stands there must not count.
    ONE: [[0.4], [0.5], [0.6]],
    SHARED: [[0.4, 0.4], [0.52, 0.52], [0.62, 0.62]],
    ALONE: [[0.4, 0.8], [0.5, 0.6], [0.5, 0.8]],
}


@pytest.fixture
def plan() -> pd.DataFrame:
    rows = [
        plan_row(
            row,
            experiment="sync",
            labels={"Shards": shards, "All-reduce": cell},
            reported={},
            metrics=["AP", *DRIFT],
            seed=seed,
            trial_id=f"row{row}seed{seed}",
            metric_prefix="",
            paper_split="minival",
            baseline_row=max(0, row - 1),
        )
        for row, (shards, cell) in ROWS.items()
        for seed in (0, 1)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def trials() -> pd.DataFrame:
    course = dict.fromkeys(
        ("final_T_now", "final_beta_now", "final_positives", "kept_iou_updates", "kept_beta_updates"), 0.5
    )
    return pd.DataFrame(
        [trial_row(f"row{row}seed{seed}", seed=seed, AP=50.0 + row, **course) for row in ROWS for seed in (0, 1)]
    )


def dynamics(seeds: tuple[int, ...] = (0, 1)) -> pd.DataFrame:
    """Each shard's beta_now is 1 - T_now; with seed 1 all lie twice as far from 0.4."""
    return pd.DataFrame(
        [
            {
                "trial_id": f"row{row}seed{seed}",
                "step": 20 * (index + 1),
                "shard_T_now": 0.4 + (1 + seed) * (np.array(values) - 0.4),
                "shard_beta_now": 0.6 - (1 + seed) * (np.array(values) - 0.4),
            }
            for seed in seeds
            for row, course in T_NOW.items()
            for index, values in enumerate(course)
        ]
    )


def test_drift_by_hand(plan, trials):
    found = with_drift(plan, trials, dynamics()).set_index("trial_id")[list(DRIFT)]

    # Largest minus smallest: 0.1, then 0.3. From the baseline: 0, 0.1, then 0.1, 0.2.
    assert found.loc["row2seed0"].tolist() == pytest.approx([0.2, 0.2, 0.1, 0.1])
    assert found.loc["row2seed1"].tolist() == pytest.approx([0.4, 0.4, 0.2, 0.2])
    assert found.loc["row1seed0"].tolist() == pytest.approx([0, 0, 0.02, 0.02])


def test_one_shard_lies_apart_from_nobody(plan, trials):
    found = with_drift(plan, trials, dynamics()).set_index("trial_id").loc["row0seed0"]

    assert found[["apart_T_now", "apart_beta_now"]].tolist() == [0, 0]
    assert found[["from_baseline_T_now", "from_baseline_beta_now"]].isna().all()


def test_steps_are_compared_with_the_same_steps(plan, trials):
    recorded = dynamics()
    without_last = recorded[(recorded["trial_id"] != "row1seed0") | (recorded["step"] < 60)]

    found = with_drift(plan, trials, without_last.sample(frac=1, random_state=0)).set_index("trial_id")

    assert found.loc["row2seed0", "apart_T_now"] == pytest.approx(0.2)
    assert found.loc["row2seed0", "from_baseline_T_now"] == pytest.approx(0.05)


def test_what_is_not_recorded_is_null(plan, trials):
    recorded = dynamics(seeds=(0,))
    recorded.loc[recorded["trial_id"] == "row1seed0", ["shard_T_now", "shard_beta_now"]] = None

    found = with_drift(plan, trials, recorded).set_index("trial_id")

    assert found.loc["row2seed0", "apart_T_now"] == pytest.approx(0.2)
    assert np.isnan(found.loc["row2seed0", "from_baseline_T_now"])
    assert found.loc["row1seed0", list(DRIFT)].isna().all()
    assert found.loc["row2seed1", list(DRIFT)].isna().all()
    build_table(plan, with_drift(plan, trials, recorded.iloc[:0]))


def test_a_table_shows_the_drift_with_its_spread_over_the_seeds(plan, trials):
    table = build_table(plan, with_drift(plan, trials, dynamics()))

    assert table["apart_T_now"].tolist() == pytest.approx([0, 0, 0.3])
    assert table.loc[2, "apart_T_now_std"] == pytest.approx(np.std([0.2, 0.4], ddof=1))
    main, drift, *_ = make_cells(table, plan).grids
    assert [column.title for column in main.columns][-2:] == ["AP", "ΔAP"]
    assert drift.name == "drift"
    assert [cell.text for cell in drift.lines[2].cells] == ["Shards = 2", "0.3000", "0.3000", "0.1500", "0.1500"]
    assert drift.lines[2].cells[1].spread == "± 0.1414"
    assert [cell.text for cell in drift.lines[0].cells][1:] == ["0.0000", "0.0000", "-", "-"]
    schema = pq.read_schema(io.BytesIO(table_to_parquet_bytes(table, plan)))
    assert schema.field("apart_beta_now_std").metadata[b"unit"] == b"normalised offset"


def test_the_finding_is_what_the_rows_measured(plan, trials):
    notes = " ".join(table_notes(build_table(plan, with_drift(plan, trials, dynamics())), plan))

    assert "With the all-reduce the shards of a trial lay at most 0 apart in T_now and 0 in beta_now" in notes
    assert "Without it they lay apart by 0.3000 (Shards = 2) to 0.3000 (Shards = 2) in T_now" in notes
    assert "From the row with the all-reduce they lay, mean over the rows, 0.1500 in T_now" in notes
    assert "The rows with the all-reduce lay 0.0300 in T_now and 0.0300 in beta_now from one shard" in notes
    assert "AP with the all-reduce minus AP without it: -1.0 [-1.0, -1.0], mean over the pairs" in notes


def test_pairs_of_rows_that_share_their_seeds_are_no_independent_samples(plan, trials):
    """Differences of -1 and -2 by seed, in however many pairs: -1.5 with the interval of two seeds."""
    again = plan.assign(
        row=plan["row"] + len(ROWS),
        labels=[{**labels, "Shards": labels["Shards"].replace("2", "4")} for labels in plan["labels"]],
        trial_id=plan["trial_id"] + "again",
    )
    by_seed = trials.assign(AP=trials["AP"] * (1 + trials["seed"]))
    more = by_seed.assign(trial_id=by_seed["trial_id"] + "again")

    low, high = stats.ttest_1samp([-1.0, -2.0], 0).confidence_interval()
    of_two_pairs = (pd.concat([plan, again]), pd.concat([by_seed, more]))
    for pairs, (rows, measured) in enumerate([(plan, by_seed), of_two_pairs], start=1):
        notes = " ".join(table_notes(build_table(rows, with_drift(rows, measured, dynamics())), rows))
        assert f"without it: -1.5 [{low:+.1f}, {high:+.1f}], mean over" in notes
        assert f"in nothing else ({pairs}), with the interval over the seeds (2)" in notes


def test_pairs_of_rows_with_other_seeds_are_compared_at_those_they_share(plan, trials):
    """AP rises by ten from seed to seed, and the all-reduce changes nothing."""
    by_seed = trials.assign(AP=50.0 + 10 * trials["seed"])
    fewer = plan[(plan["row"] != ALONE) | (plan["seed"] == 0)]

    notes = " ".join(table_notes(build_table(fewer, with_drift(fewer, by_seed, dynamics())), fewer))

    assert "AP with the all-reduce minus AP without it: +0.0, mean over" in notes
    assert "with the interval over the seeds (1)" in notes
    none = fewer.assign(
        seed=[2 if row == ALONE else seed for row, seed in zip(fewer["row"], fewer["seed"], strict=True)]
    )
    assert "AP with the all-reduce minus" not in " ".join(
        table_notes(build_table(none, with_drift(none, by_seed, dynamics())), none)
    )


def test_a_finding_needs_rows_that_have_finished(plan, trials):
    failed = trials.assign(status=["failed" if "row0" not in name else "finished" for name in trials["trial_id"]])

    notes = " ".join(table_notes(build_table(plan, with_drift(plan, failed, dynamics())), plan))

    assert "all-reduce" not in notes


def test_a_pair_in_which_a_row_lacks_a_seed_is_left_out(plan, trials):
    """Its mean would be compared with that of other seeds."""
    running = trials.assign(status=["running" if name == "row2seed1" else "finished" for name in trials["trial_id"]])

    notes = " ".join(table_notes(build_table(plan, with_drift(plan, running, dynamics())), plan))

    assert "Without it they lay apart by" in notes
    assert "AP with the all-reduce minus" not in notes
