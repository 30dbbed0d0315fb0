"""A trial that was killed is told from one that is slow, by the signs that its driver leaves."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dynrcnn_ray.__main__ import main
from dynrcnn_ray.execution.alive import signs_of_life
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.schemas import STATUSES
from dynrcnn_ray.store.trained import finished_trial
from tests.stored_table import dynamics_rows, plan_row, trial_row

HOUR = 3600


def age(file: Path, seconds: float) -> None:
    """As if the file had been written so long ago."""
    then = time.time() - seconds
    os.utime(file, (then, then))


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    """One trial has finished, one was begun an hour ago, and a third is still to come."""
    store = ResultStore.open(tmp_path / "store")
    store.write_plan("table3", [plan_row(row) for row in range(3)])
    store.write_dynamics("row0seed0", dynamics_rows(0, 0))
    store.write_trial(trial_row("row0seed0"))
    store.write_running(trial_row("row1seed0", status="running", AP=None, last_good_step=400))
    age(tmp_path / "store" / "running" / "row1seed0.parquet", HOUR)
    return store


def status(store: ResultStore) -> str:
    return store.trials_so_far(["row1seed0"], ["trial_id", "status"])["status"].item()


def test_one_that_leaves_signs_runs_however_old_its_row_is(store: ResultStore):
    assert status(store) == "stalled"
    store.write_sign_of_life("row1seed0")
    assert status(store) == "running"
    assert status(store.fold()) == "running"
    age(Path(store.files.root) / "running" / "row1seed0.alive", 700)
    assert status(store) == "stalled"
    (row,) = store.trials_so_far(["row1seed0"]).to_dict("records")
    assert 690 < (datetime.now(UTC) - row["finished_at"]).total_seconds() < 800
    store.drop_running("row1seed0")
    assert not list((Path(store.files.root) / "running").iterdir())


def test_it_has_stalled_in_tables_page_and_messages(store: ResultStore, capsys: pytest.CaptureFixture[str]):
    since = f"stalled since {datetime.fromtimestamp(time.time() - HOUR, UTC):%Y-%m-%d %H:%M}"[:-1]
    assert main(["report", "--storage", store.files.root]) == 0
    out = capsys.readouterr().out
    assert f"1 {since}" in out
    assert "stalled" in (Path(store.files.root) / "tables" / "table3.md").read_text()
    page = (Path(store.files.root) / "report.html").read_text()
    assert since in page
    assert "checkpoint at step 400 of 600" in page
    with pytest.raises(StoreError, match=since):
        finished_trial(store, "row1seed0")


@pytest.mark.parametrize("status", STATUSES)
def test_a_dry_run_knows_every_status(status: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    command = ["table3", "--scale", "smoke", "--dry-run", "--storage", str(tmp_path)]
    assert main(command) == 0
    fresh = capsys.readouterr().out
    trial_id = fresh.splitlines()[1].split()[0]
    store = ResultStore.open(tmp_path)
    if status in ("finished", "failed"):
        store.write_dynamics(trial_id, [])
        store.write_trial(trial_row(trial_id, status=status))
    else:
        store.write_running(trial_row(trial_id, status="running", AP=None))
        age(tmp_path / "running" / f"{trial_id}.parquet", HOUR if status == "stalled" else 0)
    assert main(command) == 0
    changed = [line for line in capsys.readouterr().out.splitlines() if line not in fresh]
    assert len([line for line in changed if trial_id in line]) == 1


@pytest.mark.slow
def test_watching_ends_where_nothing_runs_any_more(store: ResultStore, capsys: pytest.CaptureFixture[str]):
    """Though a trial of the plan has never begun. While another one runs, it goes on."""
    assert main(["report", "--watch", "--every", "1", "--storage", store.files.root]) == 0
    assert "1 stalled since" in capsys.readouterr().out
    from dynrcnn_ray.commands.report_body import _look

    store.write_running(trial_row("row2seed0", status="running", AP=None))
    is_open, told = _look(store, 1, ())
    assert is_open
    assert told.startswith("1 finished, 1 running, 0 failed, 1 stalled since ")


def test_a_driver_leaves_signs_until_its_work_has_ended(store: ResultStore):
    sign = Path(store.files.root) / "running" / "row1seed0.alive"
    with signs_of_life(store, "row1seed0", every=0.01):
        while not sign.exists():
            time.sleep(0.01)
        sign.unlink()
        while not sign.exists():
            time.sleep(0.01)
    store.drop_running("row1seed0")
    assert not sign.exists()
