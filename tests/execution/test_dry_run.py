"""What a dry run says: what the storage has, what is new, and what the run itself would be refused for."""

import os
from pathlib import Path
from typing import Any

import pytest

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.stored import to_stored
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.data.prepare import prepare_data
from dynrcnn_ray.paper import table3
from dynrcnn_ray.store.results_store import ResultStore
from experiments.main import main
from tests.stored_table import trial_row


@pytest.fixture
def store(tmp_path: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> ResultStore:
    """Two trials of Table 3 have finished, one has failed, and one has begun."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    store = ResultStore.open(tmp_path)
    base = base_config("smoke")
    trials = table3.EXPERIMENT.trials(Trial(base, prepare_data(base.data).inputs), [0])
    states = ("finished", "finished", "failed", "running")
    for (trial_id, (_, trial)), status in zip(trials.items(), states, strict=True):
        row: dict[str, Any] = {"scale": "smoke", "config": to_stored(trial), "status": status}
        (store.write_running if status == "running" else store.write_trial)(trial_row(trial_id, **row))
    return store


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    return main([*arguments, "--dry-run"]), capsys.readouterr().out


@pytest.mark.slow
def test_it_knows_what_the_storage_has(store: ResultStore, capsys: pytest.CaptureFixture[str]):
    code, out = run(capsys, "table3", "--scale", "smoke", "--seeds", "0", "1", "--storage", store.files.root)
    assert code == 0
    head, *lines = out.splitlines()[:9]
    assert head == f"table3, scale smoke: 4 rows, 8 distinct trials, 2 of them in {store.files.root}"
    states = [line.rpartition(" workers  ")[2] for line in lines]
    assert states == ["there", "there", "failed before", "begun", *["new"] * 4]


@pytest.mark.slow
def test_the_plan_of_all_counts_what_is_new(store: ResultStore, capsys: pytest.CaptureFixture[str]):
    def of_table3(storage: str) -> list[str]:
        code, out = run(capsys, "all", "--scale", "smoke", "--storage", storage)
        assert code == 0
        (line,) = (line for line in out.splitlines() if line.startswith("| table3 "))
        return [cell.strip() for cell in line.strip("|").split("|")][1:5]

    assert of_table3(store.files.root)[:3] == ["4", "4", "2"]
    assert of_table3(f"{store.files.root}/empty")[:3] == ["4", "4", "0"]
    assert int(of_table3(f"{store.files.root}/empty")[3]) >= int(of_table3(store.files.root)[3])


@pytest.mark.parametrize("command", ["table3", "all", "train"])
def test_data_that_cannot_be_used_are_a_failure(
    store: ResultStore, capsys: pytest.CaptureFixture[str], command: str, tmp_path: Path
):
    code, out = run(capsys, command, "--data.root", str(tmp_path / "nowhere"), "--storage", store.files.root)
    assert code == 2
    assert "The data cannot be used, so the trial ids are not final: " in out


@pytest.mark.slow
def test_workers_that_do_not_fit_here_are_told(
    store: ResultStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    eight = [
        "--num-workers",
        "8",
        "--train.global-batch",
        "8",
        "--train.shards",
        "8",
        "--scale",
        "smoke",
        "--storage",
        store.files.root,
    ]
    told = "note: 8 workers of 1 CPU each do not fit on this machine, which has 2 CPU cores: places for 2"
    search = ["search", "--name", "best", "--range", "dynamic.iou-top-k", "32", "64"]
    for command in (["table3"], ["train"], ["all"], search):
        assert told in run(capsys, *command, *eight)[1]
        assert told not in run(capsys, *command, *eight, "--run.cpus-per-worker", "0.25")[1]
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert told not in run(capsys, "table3", *eight)[1], "the cluster is asked by the run"


@pytest.mark.slow
def test_a_search_knows_its_trials(store: ResultStore, capsys: pytest.CaptureFixture[str]):
    search = ["search", "--name", "best", "--range", "dynamic.iou-top-k", "32", "64", "--trials", "7"]
    code, out = run(capsys, *search, "--scale", "smoke", "--storage", store.files.root)
    assert code == 0
    assert f"; 0 in {store.files.root}, 7 new" in out
