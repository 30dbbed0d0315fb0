"""A search, on a real cluster: judged on a part of the training split, ended by a table, and resumed from the store."""

import os
import re
from pathlib import Path

import pytest

from dynrcnn_ray.config_yaml import from_yaml
from tests.orchestration.commands import Command

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SEARCH = ("search", "--name", "best", "--range", "dynamic.iou-top-k", "32", "256", "--trials", "2")


def test_a_search_ends_with_its_winner_beside_the_baseline_and_the_same_command_finds_it_done(
    cache_home: Path, tmp_path: Path
):
    command = Command(cache_home, tmp_path / "store")
    arguments = (*SEARCH, "--scale", "smoke", "--train.steps", "4")
    code, out = command.run(*arguments)
    assert code == 0, out
    assert "Ray instance" not in out, "Ray's own lines"
    assert "RAY_AUTH_MODE" not in out

    trials = command.trials()
    assert (trials["status"] == "finished").all()
    configs = {name: [from_yaml(text) for text in rows["config"]] for name, rows in trials.groupby("experiment")}
    assert {name: len(found) for name, found in configs.items()} == {"best_search": 2, "best": 2}
    # The validation split is for the end alone.
    assert {config.data.val_split for config in configs["best_search"]} == {"held_out"}
    assert {config.data.val_split for config in configs["best"]} == {"val"}
    searched = {config.dynamic.iou_top_k for config in configs["best_search"]}
    assert len(searched) == 2
    assert searched <= set(range(32, 257))
    found = trials[trials["experiment"] == "best_search"].to_dict("records")
    best = {from_yaml(row["config"]).dynamic.iou_top_k for row in found if row["AP"] == max(row["AP"] for row in found)}
    (top_k,) = map(int, re.findall(r"^The winner: dynamic.iou_top_k = (\d+)$", out, flags=re.MULTILINE))
    assert top_k in best
    assert {config.dynamic.iou_top_k for config in configs["best"]} == {75, top_k}

    code, out = command.run(*arguments)
    assert code == 0, out
    assert "nothing to train, all 2 trials are in " in out
    assert len(command.trials()) == len(trials)


def test_asha_stops_a_trial_and_the_same_command_counts_it(cache_home: Path, tmp_path: Path):
    """A detector whose scores all lie below its threshold has an AP of zero, at every checkpoint."""
    command = Command(cache_home, tmp_path / "store")
    arguments = (
        "search",
        "--name",
        "score",
        "--choice",
        "model.score-threshold",
        "0.0",
        "0.98",
        "0.99",
        "--trials",
        "3",
    )
    # One after the other, and one that detects nothing last.
    arguments = (*arguments, "--asha", "--search-seed", "1", "--run.cpus-per-worker", str(os.cpu_count()))
    arguments = (*arguments, "--scale", "smoke", "--run.checkpoint-every", "3")
    code, out = command.run(*arguments)
    assert code == 0, out
    assert "search: 2 trials have finished, 1 were stopped early; the best AP on the part kept out is " in out
    assert "stopped early, at step 3" in out
    trials = command.trials()
    searched = trials[trials["experiment"] == "score_search"].to_dict("records")
    (stopped,) = (row for row in searched if row["status"] != "finished")
    assert (stopped["status"], stopped["error"]) == ("failed", "stopped early by ASHA")
    assert from_yaml(stopped["config"]).model.score_threshold > 0.9
    dynamics = command.dynamics()
    assert dynamics.loc[dynamics["trial_id"] == stopped["trial_id"], "step"].max() < 10
    assert not list((tmp_path / "store" / "running").glob("*.parquet"))
    assert "The winner: model.score_threshold = 0\n" in out

    code, out = command.run(*arguments)
    assert code == 0, out
    assert "trials to run" not in out
    assert len(command.trials()) == len(trials)
