"""Lines of a grid's progress, whatever order Tune tells things in, and whatever becomes of the output."""

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dynrcnn_ray.config.sections import TrainConfig
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.execution.job import TrialJob
from dynrcnn_ray.execution.progress import ProgressLines
from tests.prepared import prepared

JOBS = {"a trial": TrialJob(prepared(TrialConfig()), "table3", "baseline", "storage")}


@pytest.fixture
def trials() -> list[Any]:
    return [
        SimpleNamespace(trial_id=name, config={"trial": "a trial"}, error_file=None) for name in ("first", "second")
    ]


def test_a_driver_may_die_before_its_trial_starts(trials: list[Any], capsys: pytest.CaptureFixture[str]):
    lines = ProgressLines(2, JOBS)
    first, second = trials
    lines.on_trial_recover(0, trials, first)
    lines.on_trial_start(0, trials, second)
    lines.on_trial_error(0, trials, first)
    found = [" ".join(line.split()[:7]) for line in capsys.readouterr().out.splitlines()]
    assert found == [
        "[1/2] baseline, seed 0 its process ended;",
        f"[2/2] baseline, seed 0 starts: trial {prepared(TrialConfig()).trial_id},",
        "[1/2] baseline, seed 0 its driver failed;",
    ]


def test_of_a_process_that_ended_the_last_cause_is_told(
    trials: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    trials[0].error_file = tmp_path / "error.txt"
    of_memory = "Failure # 1 (occurred at 10:00)\n1 worker(s) were killed due to the node running low on memory.\n"
    for text in (of_memory, of_memory + "Failure # 2 (occurred at 11:00)\nkilled by the OOM killer or crashed\n"):
        trials[0].error_file.write_text(text)
        ProgressLines(2, JOBS).on_trial_recover(0, trials, trials[0])
    first, second = capsys.readouterr().out.splitlines()
    assert "its process ended for lack of memory; lower --run.loader-workers" in first
    assert "its process ended; starts again in a new one" in second


@pytest.mark.parametrize(
    ("total", "every", "shown"), [(10, 2, [6, 10]), (40, 20, [20, 40]), (200, 50, [50, 100, 150, 200])]
)
def test_a_tiny_run_has_few_lines(
    trials: list[Any], capsys: pytest.CaptureFixture[str], total: int, every: int, shown: list[int]
):
    config = TrialConfig(train=TrainConfig(steps=total))
    lines = ProgressLines(1, {"a trial": TrialJob(prepared(config), "table3", "baseline", "storage")})
    lines.on_trial_start(0, trials, trials[0])
    for step in range(every, total + 1, every):
        row = {"step": step, "loss": 1.0, "T_now": 0.4, "beta_now": 1.0, "positives": 2.0, "images_per_second": 9.0}
        lines.on_trial_result(0, trials, trials[0], row)
    _, *steps = capsys.readouterr().out.splitlines()
    assert [int(line.split(" step ")[1].partition("/")[0]) for line in steps] == shown


def test_a_full_disk_under_the_log_ends_no_training(trials: list[Any], monkeypatch: pytest.MonkeyPatch):
    full = io.TextIOWrapper(io.FileIO("/dev/full", "w"))
    monkeypatch.setattr(sys, "stdout", full)
    ProgressLines(2, JOBS).on_trial_start(0, trials, trials[0])
    monkeypatch.undo()
    full.detach().close()


def test_a_terminal_that_is_gone_ends_no_training(trials: list[Any]):
    """As where a connection was lost."""

    def lost(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    lines = ProgressLines(2, JOBS)
    lines._terminal = cast(
        "Any", SimpleNamespace(show=lost, print=lost, end=lambda _: None, grid_is_at=lambda *_: None)
    )
    lines.on_trial_start(0, trials, trials[0])
    lines.on_trial_result(0, trials, trials[0], {"ending": "finished"})
