"""Real kills: workers, drivers and whole clusters end by SIGKILL, and the same command goes on to the same bits."""

import os
import re
import signal
from pathlib import Path

import pytest

from dynrcnn_ray.config.trial_config import TrialConfig
from experiments.main import main
from tests.cluster.ray_head import processes_with
from tests.execution.commands import Command, assert_same_bits, read_until
from tests.trained_store import train_into

TRAIN = ("train", "--scale", "smoke")

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def undisturbed(smoke: TrialConfig, cache_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """What a run leaves that nothing disturbs, Ray neither."""
    command = Command(cache_home, tmp_path_factory.mktemp("undisturbed") / "store")
    train_into(command.storage, smoke)
    return command


def resumed_from(out: str) -> list[str]:
    return re.findall(r"goes on from the checkpoint of step (\d+)\n", out)


def test_the_same_command_goes_on_after_every_kill(undisturbed: Command, tmp_path: Path):
    """One trial dies four times, two of them within one command; the third command ends it."""
    command = Command(undisturbed.home, tmp_path / "store")
    code, out = command.run(*TRAIN, dies={"while_writing_a_checkpoint": "cluster"})
    assert code == -signal.SIGKILL, out
    assert command.trials().empty, "a trial that did not finish has no row"
    assert resumed_from(out) == []

    dies = {"in_mid_interval": "self", "during_evaluation": "self", "before_the_row": "command"}
    code, out = command.run(*TRAIN, dies=dies)
    assert code == -signal.SIGKILL, out
    assert command.trials().empty
    assert resumed_from(out) == ["5", "5", "10"]
    assert out.count("its process ended; starts again in a new one") == 2
    assert "Traceback" not in out, "Tune's own"

    code, out = command.run(*TRAIN)
    assert code == 0, out
    assert resumed_from(out) == ["10"]
    assert_same_bits(command, undisturbed)


def test_drivers_that_die_alone_are_recorded_and_do_not_stop_the_others(
    cache_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    """Tune loses two processes, before and at the end of their trials; the same command would run those alone."""
    command = Command(cache_home, tmp_path / "store")
    grid = ("figure1", "--scale", "smoke", "--train.steps", "4", "--run.max-failures", "0", "--seeds", "0", "1", "2")
    code, out = command.run(*grid, dies={"before_the_trial": "self", "before_the_row": "self"})
    assert code == 1, out
    trials = command.trials()
    assert sorted(trials["status"]) == ["failed", "failed", "finished"]
    failed = trials[trials["status"] == "failed"]
    assert failed["error"].str.startswith("the trial's driver ended: ").all()
    assert failed["last_good_step"].dropna().tolist() == [4]
    assert out.count("its driver failed; ") == 2
    assert "Traceback" not in out, "Tune's own"

    again: list[str] = []
    monkeypatch.setattr(
        "dynrcnn_ray.execution.trials.run_trials",
        lambda trials, **_: again.extend(trial.trial.trial_id for trial in trials),
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    main([*grid, "--storage", str(command.storage)])
    assert "figure1: 2 trials to run, 1 already" in capsys.readouterr().out
    assert sorted(again) == sorted(failed["trial_id"])


def test_a_training_whose_controller_dies_gives_its_places_back_and_starts_again(cache_home: Path, tmp_path: Path):
    """Ray Train's own process that leads the workers: Ray keeps their places, in which nobody else could train."""
    command = Command(cache_home, tmp_path / "store")
    process = command.start(*TRAIN, "--num-workers", "2", "--train.steps", "20")
    read_until(process, " step ")
    # Another test's command may have one too.
    of_command = f"XDG_CACHE_HOME={command.home}".encode()
    controllers = [
        pid
        for pid in processes_with("ray::TrainController.run")
        if of_command in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    ]
    assert len(controllers) == 1
    os.kill(controllers[0], signal.SIGKILL)
    out, _ = process.communicate()
    assert process.returncode == 0, out
    assert "interrupted: Ray Train's controller: its process or its node ended" in out
    assert command.trials()["status"].tolist() == ["finished"]


def test_drivers_that_rays_memory_monitor_ends_cost_their_trials_a_try_each(cache_home: Path, tmp_path: Path):
    """To it the node is always full. All that is left is a row that says so, and the table of what is there."""
    monitor = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"}
    command = Command(cache_home, tmp_path / "store", monitor)
    code, out = command.run(*TRAIN, "--run.max-failures", "1")
    assert code == 1, out
    assert "Traceback" not in out
    assert "ERROR" not in out, "Tune's own"
    assert out.count("; starts again in a new one") == 1
    (trial,) = command.trials().to_dict("records")
    why = r"its process ended for lack of memory \([\d.]+ of [\d.]+ GB in use\), most of it, [\d.]+ GB by process \d+, "
    assert re.match(f"the trial's driver ended: {why}", trial["error"])
    assert re.search(rf" {why}.*; starts again", out)
    assert "One trial. " in out


def test_two_commands_on_one_store_also_where_home_is_read_only_and_nothing_else_as_usual(
    undisturbed: Command, tmp_path: Path
):
    """Both train the same trial at once: at worst all of it is done twice, and every file is whole.

    The second has a TMPDIR that is no place for Ray's sockets and an output that is ASCII. Nobody can write into /proc,
    root neither.
    """
    usual = Command(undisturbed.home, tmp_path / "störe")
    folder = tmp_path / ("é" * 30)
    folder.mkdir()
    environment = {"HOME": "/proc", "TMPDIR": str(folder), "PYTHONIOENCODING": "ascii", "RAY_ADDRESS": "local"}
    unusual = Command(usual.home, usual.storage, environment)
    ended = []
    for process in [command.start(*TRAIN) for command in (usual, unusual)]:
        out, _ = process.communicate()
        assert process.returncode == 0, out
        ended.append(out)
    assert list((usual.storage / ".partial").glob("*")) == []
    assert_same_bits(usual, undisturbed)
    assert "Temporary files go to /tmp: " in ended[1]
    assert "is not ASCII, and Ray's sockets must be." in ended[1]
    assert "measured" in ended[1]
    assert f"{tmp_path}/st?re/tables/train_" in ended[1]
