"""The command `all`: one grid of every table's and figure's trials. Nothing is trained here."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data import prepare
from dynrcnn_ray.execution import trials as grid
from dynrcnn_ray.execution.job import PlannedTrial
from dynrcnn_ray.experiment.costs import place_seconds
from dynrcnn_ray.paper.paper import EXPERIMENTS
from dynrcnn_ray.store.results_store import ResultStore
from experiments.main import main


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def called(smoke: TrialConfig, cache_home: Path, storage: Path) -> dict[str, list[Any]]:
    """What `all` asks for: the grids that it starts, and how often it checks the data."""
    seen: dict[str, list[Any]] = {"grids": [], "checks": []}
    check = prepare.check_data

    def counting_check(*given: Any, **named: Any) -> Any:
        seen["checks"].append(given)
        return check(*given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache_home))
        patch.setattr(prepare, "check_data", counting_check)
        patch.setattr(grid, "run_trials", lambda trials, **named: seen["grids"].append(list(trials)))
        assert main(["all", "--scale", "smoke", "--seeds", "0", "1", "--storage", str(storage)]) == 1
    return seen


@pytest.mark.slow
def test_all_is_one_grid_that_holds_each_trial_once(called: dict[str, list[Any]], storage: Path):
    (trials,) = called["grids"]
    ids = Counter(trial.trial.trial_id for trial in trials)
    assert set(ids.values()) == {1}
    plans = [ResultStore.open(storage).plan(experiment.name) for experiment in EXPERIMENTS]
    assert all(plan is not None for plan in plans)
    assert set(ids) == {trial_id for plan in plans if plan is not None for trial_id in plan["trial_id"].dropna()}


@pytest.mark.slow
def test_the_data_are_checked_once(called: dict[str, list[Any]]):
    assert len(called["checks"]) == 1


@pytest.mark.slow
def test_the_longest_trials_start_first(called: dict[str, list[Any]]):
    trials: list[PlannedTrial] = called["grids"][0]
    seconds = [place_seconds([trial.trial]) for trial in trials]
    assert len(set(seconds)) > 1
    assert seconds == sorted(seconds, reverse=True)
