"""What the command `search` says before Ray starts, and when somebody ends it."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.tune.search.optuna import OptunaSearch

from dynrcnn_ray.__main__ import main
from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.stored import to_stored
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.execution import search, search_body
from dynrcnn_ray.execution.job import TrialJob
from dynrcnn_ray.execution.run import Outcome
from dynrcnn_ray.experiment.search_space import Range, trial_at
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.training import environment
from tests.stored_table import trial_row

SEARCH = ["search", "--name", "best", "--range", "dynamic.iou-top-k", "32", "256", "--scale", "smoke"]


@pytest.fixture(autouse=True)
def _no_cluster(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start() -> None:
        raise AssertionError("Ray starts")

    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(search, "ray_cluster", start)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--run.gpu", "1"], "no usable GPU: "),
        (["--model.weights", "/nowhere.npz"], "model.weights: '/nowhere.npz' is no file"),
        (["--model.detector-weights", "0123456789ab"], "holds no trial '0123456789ab'"),
        (["--run.mlflow", "http://127.0.0.1:9"], "run.mlflow: 'http://127.0.0.1:9' does not answer"),
        (["--asha", "--num-workers", "2"], "--asha: stops trials of one worker alone; add --num-workers 1"),
        (
            ["--asha", "--run.checkpoint-every", "10"],
            "there is none before the last of 10 steps; lower --run.checkpoint",
        ),
        (["--trials", "0"], "--trials: 0 must be 1 or greater"),
        (["--holdout", "1"], "--holdout: 1.0 must be between 0 and 1"),
        (["--baseline", "dynamic.dla"], "--baseline: 'dynamic.dla' must be FIELD=VALUE"),
        (["--name", "table3"], "name: 'table3' is that of another table"),
    ],
)
def test_what_cannot_be_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, flags: list[str], message: str
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(environment, "driver_cuda_version", lambda: None)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert main([*SEARCH, *flags, "--storage", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("error: ") == 1
    assert err.endswith("\n")


def test_a_package_that_is_not_installed(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main([*SEARCH, "--storage", str(tmp_path)]) == 2
    assert "search: needs the package optuna: pip install 'dynrcnn-ray[search]'" in capsys.readouterr().err


def test_who_ends_it_is_told_that_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(search, "ray_cluster", interrupted)
    with pytest.raises(KeyboardInterrupt) as interrupt:
        main([*SEARCH, "--storage", str(tmp_path)])
    assert interrupt.value.__notes__ == [f"0 of 20 trials are in {tmp_path}; the same command goes on"]


def test_a_commit_that_is_not_known_is_told(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(search_body, "git_commit", lambda: "unknown")
    with pytest.raises(AssertionError, match="Ray starts"):
        main([*SEARCH, "--storage", str(tmp_path)])
    assert "note: the code's commit is not known here" in capsys.readouterr().out


def test_what_is_suggested_lies_in_the_space_and_follows_what_is_known(tmp_path: Path):
    """Ten points are drawn at random; those that are known count among them."""
    base = base_config("smoke")
    space = {"dynamic.iou_top_k": Range(32, 256, log=False, is_whole=True), "dynamic.dsl": (True, False)}
    planned = search.PlannedSearch("best", Trial(base), space, trials=20, seed=0, stops_early=False)
    store = ResultStore.open(tmp_path)
    known = {}
    for top_k in range(32, 256, 8):
        trial = trial_at(Trial(base), {"dynamic.iou_top_k": top_k})
        row = {"scale": "smoke", "config": to_stored(trial), "AP": 50.0}
        store.write_trial(trial_row(trial.trial_id, **row))
        known[trial.trial_id] = -abs(top_k - 96.0)
    suggestions = search.optuna_search(planned, known, store)
    found = [suggestions.suggest(str(number)) for number in range(10)]
    assert all(isinstance(point, dict) for point in found)
    top_ks = [point["dynamic.iou_top_k"] for point in found if isinstance(point, dict)]
    assert all(isinstance(top_k, int) and 32 <= top_k <= 256 for top_k in top_ks)
    assert {point["dynamic.dsl"] for point in found if isinstance(point, dict)} <= {True, False}
    assert sorted(abs(top_k - 96) for top_k in top_ks)[5] < 40, "most of them near the best that is known"


def test_what_was_interrupted_comes_first_and_counts(tmp_path: Path):
    base = base_config("smoke")
    space = {"dynamic.iou_top_k": Range(32, 256, log=False, is_whole=True)}
    planned = search.PlannedSearch("best", Trial(base), space, trials=20, seed=0, stops_early=False)
    store = ResultStore.open(tmp_path)
    optuna = search.optuna_search(planned, {}, store)
    interrupted = trial_at(Trial(base), {"dynamic.iou_top_k": 200})

    def job(trial: Trial) -> TrialJob:
        return TrialJob(trial, "best", "a point", str(tmp_path))

    suggestions = search._Suggestions(planned, optuna, set(), [interrupted], store, job)
    assert suggestions.suggest("first") == {"trial": interrupted.trial_id, "job": job(interrupted)}
    second = suggestions.suggest("second")
    assert isinstance(second, dict)
    assert second["trial"] != interrupted.trial_id
    store.write_trial(trial_row(interrupted.trial_id, scale="smoke", config=to_stored(interrupted), AP=50.0))
    suggestions.on_trial_complete("first", {})
    assert isinstance(optuna, OptunaSearch)
    assert optuna._ot_study is not None
    told = [(trial.params["dynamic.iou_top_k"], trial.value) for trial in optuna._ot_study.trials if trial.values]
    assert told == [(200, 50.0)]


def test_a_search_in_a_smaller_space_leaves_out_what_lies_outside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """And knows which of its trials has begun, and which has ended."""
    given: list[list[int]] = []

    def run_search(planned: search.PlannedSearch, known: list[str], interrupted: list[Trial], *_: Any, **on: Any):
        given.append([len(known), *(trial.config.dynamic.iou_top_k for trial in interrupted)])
        store = ResultStore.open(tmp_path)
        for top_k, status in ((40, "finished"), (50, "running"), (200, "finished"), (210, "running")):
            trial = trial_at(planned.base, {"dynamic.iou_top_k": top_k})
            on["on_trial"](trial)
            row = trial_row(trial.trial_id, scale="smoke", config=to_stored(trial), status=status, AP=float(top_k))
            (store.write_trial if status == "finished" else store.write_running)(row)

    monkeypatch.setattr(search_body, "run_search", run_search)
    # The table at the end.
    monkeypatch.setattr(search_body, "run_experiments", lambda *_: Outcome(exit_code=0))
    winners = []
    for high in ("256", "128"):
        flags = ["--range", "dynamic.iou-top-k", "32", high, "--scale", "smoke", "--storage", str(tmp_path)]
        assert main(["search", "--name", "best", *flags]) == 0
        winners.append(capsys.readouterr().out.rstrip().rpartition("The winner: ")[2])
    assert given == [[0], [1, 50]]
    assert winners == ["dynamic.iou_top_k = 200", "dynamic.iou_top_k = 40"]
