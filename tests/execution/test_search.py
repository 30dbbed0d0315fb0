"""A search, on a real cluster: judged on a part of the training split, ended by a table, and resumed from the store."""

from pathlib import Path

import pytest

from dynrcnn_ray.config.stored import from_stored
from dynrcnn_ray.execution import cluster
from experiments.main import main
from tests.execution.commands import Command

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SEARCH = ("search", "--name", "best", "--choice", "model.score-threshold", "0.0", "0.98", "0.99", "--trials", "3")


def test_a_search_stops_what_does_badly_ends_with_its_winner_beside_the_baseline_and_is_found_done(
    cache_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A detector whose scores all lie below its threshold has an AP of zero, at every checkpoint."""
    # One after the other, and one that detects nothing last.
    command = Command(cache_home, tmp_path / "store", {"RAY_OVERRIDE_RESOURCES": '{"CPU": 1}'})
    arguments = (*SEARCH, "--asha", "--search-seed", "1", "--scale", "smoke", "--run.checkpoint-every", "3")
    code, out = command.run(*arguments)
    assert code == 0, out
    assert "search: 2 trials have finished, 1 were stopped early; the best AP on the part kept out is " in out
    assert "stopped early, at step 3" in out
    assert "The winner: model.score_threshold = 0\n" in out
    assert "Ray instance" not in out, "Ray's own lines"
    assert "RAY_AUTH_MODE" not in out

    trials = command.trials()
    rows = {name: found.to_dict("records") for name, found in trials.groupby("experiment")}
    (stopped,) = (row for row in rows["best_search"] if row["status"] != "finished")
    assert (stopped["status"], stopped["error"]) == ("failed", "stopped early by ASHA")
    dynamics = command.dynamics()
    assert dynamics.loc[dynamics["trial_id"] == stopped["trial_id"], "step"].max() < 10
    assert not list((tmp_path / "store" / "running").glob("*.parquet"))
    configs = {name: [from_stored(row["config"]).config for row in found] for name, found in rows.items()}
    assert sorted(config.model.score_threshold for config in configs["best_search"]) == [0.0, 0.98, 0.99]
    assert sorted(config.model.score_threshold for config in configs["best"]) == [0.0, 0.05]
    # The validation split is for the end alone.
    assert {config.data.val_split for config in configs["best_search"]} == {"held_out"}
    assert {config.data.val_split for config in configs["best"]} == {"val"}

    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster, "_join_or_start", lambda: pytest.fail("Ray is started"))
    assert main([*arguments, "--storage", str(command.storage)]) == 0
    out = capsys.readouterr().out
    assert "trials to run" not in out
    assert "nothing to train, all 2 trials are in " in out
    assert len(command.trials()) == len(trials)
