"""Real kills: workers, drivers and whole clusters end by SIGKILL, and the same command goes on to the same bits."""

import signal
from pathlib import Path

import pytest

from tests.orchestration.commands import Command, assert_same_bits

TRAIN = ("train", "--scale", "smoke")

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def undisturbed(cache_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """A run that nothing disturbed."""
    command = Command(cache_home, tmp_path_factory.mktemp("undisturbed") / "store")
    code, out = command.run(*TRAIN)
    assert code == 0, out
    return command


def test_a_killed_worker_starts_again_within_the_same_command(undisturbed: Command, tmp_path: Path):
    command = Command(undisturbed.home, tmp_path / "store")
    code, out = command.run(*TRAIN, at="in_mid_interval", who="self")
    assert code == 0, out
    assert out.index("its process ended; starts again in a new one") < out.index(
        "goes on from the checkpoint of step 5"
    )
    assert_same_bits(command, undisturbed)


def test_the_same_command_goes_on_after_every_kill(undisturbed: Command, tmp_path: Path):
    """One trial dies four times; the fifth command ends it."""
    command = Command(undisturbed.home, tmp_path / "store")
    for at, who, begins_at in (
        ("in_mid_interval", "command", None),
        ("while_writing_a_checkpoint", "cluster", 5),
        ("during_evaluation", "cluster", 5),
        ("before_the_row", "cluster", 10),
    ):
        code, out = command.run(*TRAIN, at=at, who=who)
        assert code == -signal.SIGKILL, out
        assert command.trials().empty, "a trial that did not finish has no row"
        assert ("goes on from the checkpoint" in out) == (begins_at is not None), out
        assert begins_at is None or f"goes on from the checkpoint of step {begins_at}" in out, out
    code, out = command.run(*TRAIN)
    assert code == 0, out
    assert "goes on from the checkpoint of step 10" in out
    assert_same_bits(command, undisturbed)


def test_a_driver_that_dies_alone_is_recorded_and_does_not_stop_the_others(cache_home: Path, tmp_path: Path):
    """Tune loses the process that runs a trial; the row says so, and the same command runs that trial alone."""
    command = Command(cache_home, tmp_path / "store")
    grid = ("figure1", "--scale", "smoke", "--train.steps", "4", "--run.max-failures", "0", "--seeds", "0", "1")
    code, out = command.run(*grid, at="before_the_row", who="self")
    assert code == 1, out
    trials = command.trials()
    failed = trials[trials["status"] == "failed"]
    assert len(failed) == 1
    assert len(trials) > 1
    assert "driver" in failed["error"].item()
    assert failed["last_good_step"].item() == 4
    code, out = command.run(*grid)
    assert code == 0, out
    assert f"figure1: 1 trials to run, {len(trials) - 1} already" in out
    assert set(command.trials()["status"]) == {"finished"}


def test_one_trial_out_of_memory_does_not_stop_the_others(cache_home: Path, tmp_path: Path):
    command = Command(cache_home, tmp_path / "store")
    grid = ("figure1", "--scale", "smoke", "--train.steps", "4", "--run.max-failures", "0", "--seeds", "0", "1", "2")
    code, out = command.run(*grid, at="out_of_memory")
    assert code == 1, out
    trials = command.trials().set_index("seed")
    assert trials["status"].to_dict() == {0: "finished", 1: "failed", 2: "finished"}
    assert trials.loc[1, "error"].startswith("MemoryError; lower --run.loader-workers")
    assert "in detect_or_fail" in trials.loc[1, "traceback"]
    assert trials.loc[1, "last_good_step"] == 4


def test_two_drivers_on_one_store(cache_home: Path, tmp_path: Path):
    """Both run the same grid at once: at worst a trial is trained twice, and every file is whole."""
    command = Command(cache_home, tmp_path / "store")
    grid = ("figure1", "--scale", "smoke", "--train.steps", "4", "--seeds", "0", "1")
    processes = [command.start(*grid) for _ in range(2)]
    for process in processes:
        out, _ = process.communicate(timeout=400)
        assert process.returncode == 0, out
    trials = command.trials()
    assert sorted(trials["seed"]) == [0, 1]
    assert set(trials["status"]) == {"finished"}
    assert not command.dynamics().duplicated(["trial_id", "step"]).any()
    assert list((command.storage / ".partial").glob("*")) == []
