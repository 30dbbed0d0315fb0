"""Which trial a name means."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.named_trials import trial_id_of
from dynrcnn_ray.store.results_store import ResultStore
from tests.stored_table import plan_row, trial_row

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
TRIALS: dict[str, dict[str, Any]] = {
    "aaa1": {"AP": 50.0},
    "aaa2": {"AP": 70.0},
    "abb1": {"AP": 70.0},
    "c001": {"AP": None, "status": "failed"},
    "d001": {"AP": 90.0},
}


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    """Trials that have ended, of which the first four are a table's, and one that runs."""
    store = ResultStore.open(tmp_path / "store")
    for minute, (trial_id, fields) in zip((0, 3, 1, 4, 2), TRIALS.items(), strict=True):
        store.write_trial(trial_row(trial_id, finished_at=BEGAN + timedelta(minutes=minute), **fields))
    store.write_running(trial_row("e001", status="running"))
    planned = enumerate(["abb1", "aaa2", "aaa1", "c001", "e001", None])
    store.write_plan("table3", [plan_row(row, trial_id=trial_id) for row, trial_id in planned])
    store.write_plan("none_yet", [plan_row(0, trial_id="e001")])
    return store


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("aaa1", "aaa1"),
        ("ab", "abb1"),
        ("c", "c001"),
        ("e0", "e001"),
        # The one after it has failed.
        ("last", "aaa2"),
        # Of equal ones the table's first; what is not in the table does not count.
        ("best:table3", "abb1"),
    ],
)
def test_a_name_means_one_trial(store: ResultStore, name: str, meant: str):
    assert trial_id_of(store, name) == meant


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a", "trial 'a': 3 ids in .*/trials begin so: aaa1, aaa2, abb1; give more of it"),
        ("aaa", "trial 'aaa': 2 ids in .* begin so: aaa1, aaa2; give more of it"),
        ("zz", "holds no trial 'zz'; look at its trial_id column; a trial is named by its id or the beginning of it"),
        ("", "holds no trial ''"),
        ("best:table4", "holds no table 'table4', only: none_yet, table3"),
        ("best:", "holds no table '', only: none_yet, table3"),
        ("best:none_yet", "best:none_yet: no trial of this table has finished"),
    ],
)
def test_a_name_that_means_none_or_several_is_refused(store: ResultStore, name: str, told: str):
    with pytest.raises(StoreError, match=told) as refused:
        trial_id_of(store, name)
    assert "\n" not in str(refused.value)


def test_an_empty_store_has_no_newest(tmp_path: Path):
    with pytest.raises(StoreError, match="holds no finished trial, so none is the last"):
        trial_id_of(ResultStore.open(tmp_path), "last")


def test_very_many_ids_are_cut(store: ResultStore):
    for number in range(20):
        store.write_trial(trial_row(f"9{number:03}"))
    with pytest.raises(StoreError, match=r"20 ids in .* begin so: 9000, .*, 9007 and 12 more"):
        trial_id_of(store, "9")
