"""Two commands on one storage at once: each prints the table of its own plan, and the report knows both."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dynrcnn_ray.config.stored import to_stored
from dynrcnn_ray.execution import trials as grid
from dynrcnn_ray.store.results_store import ResultStore
from experiments.main import main
from tests.stored_table import dynamics_rows, trial_row


@pytest.fixture
def arguments(tmp_path: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return ["--scale", "smoke", "--storage", str(tmp_path)]


def run_another_meanwhile(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], another: Sequence[str]
) -> None:
    """While a command's trials run, another command starts and ends, unheard. Trials measure ten times their seed."""

    def run_trials(trials: Sequence[grid.PlannedTrial], *, storage: str, **_: Any) -> None:
        monkeypatch.setattr(grid, "run_trials", write_rows)
        assert main(another) == 0
        capsys.readouterr()
        write_rows(trials, storage=storage)

    def write_rows(trials: Sequence[grid.PlannedTrial], *, storage: str, **_: Any) -> None:
        store = ResultStore.open(storage)
        for trial in trials:
            trial_id, config = trial.trial.trial_id, to_stored(trial.trial)
            seed = trial.trial.config.seed
            store.write_dynamics(trial_id, dynamics_rows(0, seed))
            described = {"seed": seed, "scale": "smoke", "config": config, "AP": 10.0 * seed}
            store.write_trial(trial_row(trial_id, **described))

    monkeypatch.setattr(grid, "run_trials", run_trials)


@pytest.mark.slow
def test_each_of_two_single_trials_keeps_its_table(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run_another_meanwhile(monkeypatch, capsys, ["train", "--seed", "7", *arguments])
    assert main(["train", "--seed", "3", *arguments]) == 0
    of_first = capsys.readouterr().out
    assert "30.0" in of_first
    assert "70.0" not in of_first
    # The files that it names are its own, and stay so.
    (table,) = [Path(line) for line in of_first.splitlines() if line.endswith(".md")]
    assert "30.0" in table.read_text()
    assert main(["report", "--storage", str(tmp_path)]) == 0
    assert "30.0" in table.read_text()
    drawn = capsys.readouterr().out
    assert "30.0" in drawn
    assert "70.0" in drawn


@pytest.mark.slow
def test_a_table_is_drawn_from_the_plan_of_its_own_command(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run_another_meanwhile(monkeypatch, capsys, ["table3", "--seeds", "7", *arguments])
    assert main(["table3", "--seeds", "3", *arguments]) == 0
    of_first = capsys.readouterr().out
    assert of_first.count("30.0") == 4
    assert "70.0" not in of_first
    # What lies in the storage belongs together: all is of the command that ended last.
    assert ResultStore.open(tmp_path).plan("table3")["seed"].unique().tolist() == [3]  # pyright: ignore[reportOptionalSubscript]
    assert "30.0" in (tmp_path / "tables" / "table3.md").read_text()
