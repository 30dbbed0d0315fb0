"""Commands that end before their trials do: by signals, drivers that never start, machines that lack something."""

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynrcnn_ray.config import TrialConfig
from tests.cluster.ray_head import processes_with
from tests.orchestration.commands import Command, read_until, start_command

pytestmark = [pytest.mark.ray, pytest.mark.slow]

LONG = ("--scale", "smoke", "--train.steps", "100000", "--run.checkpoint-every", "5", "--run.log-every", "5")


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    """A command whose processes, Ray's too, are known by its home, where Ray's own files are."""
    return start_command(home, *arguments, "--storage", str(home / "store"), process_group=0, RAY_TMPDIR=str(home))


def assert_nothing_is_left(home: Path) -> None:
    for _ in range(600):
        left = processes_with(f"{home}/ray/")
        if not left:
            return
        time.sleep(0.1)
    raise AssertionError(left)


@pytest.fixture
def home(smoke: TrialConfig, cache_home: Path) -> Iterator[Path]:
    """A folder of the test's own, whose path is short enough for Ray, with the generated images of the session."""
    with tempfile.TemporaryDirectory(prefix="ends_", dir="/tmp", ignore_cleanup_errors=True) as folder:
        for cached in cache_home.iterdir():
            Path(folder, cached.name).symlink_to(cached)
        yield Path(folder)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_all_in_one_line_that_says_what_goes_on_from_where(home: Path, number: signal.Signals, code: int):
    """Ctrl-C in a terminal reaches every process that has not left the command's group."""
    process = start(home, "all", *LONG)
    read_until(process, " step     10/")
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    rest, _ = process.communicate(timeout=400)
    assert process.returncode == code
    # Tune may have had more rows to print.
    *rows, line = rest.splitlines()
    assert not [row for row in rows if not row.startswith("[")], rest
    of_all = (
        rf"interrupted; 0 of \d+ trials are in {home}/store; the same command goes on with trial \w+ from step \d+, .+"
    )
    assert re.fullmatch(of_all, line)
    assert_nothing_is_left(home)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_while_ray_starts(home: Path, number: signal.Signals, code: int):
    process = start(home, "train", *LONG)
    read_until(process, "train: 1 trials to run")
    while not processes_with(f"{home}/ray/"):
        time.sleep(0.05)
    process.send_signal(number)
    rest, _ = process.communicate(timeout=400)
    assert process.returncode == code
    assert rest.splitlines()[-1].startswith("interrupted; 0 of 1 trials are in ")
    assert "Traceback" not in rest
    assert_nothing_is_left(home)


def test_a_driver_that_dies_before_its_trial_starts_is_a_failed_row_and_the_others_go_on(
    cache_home: Path, tmp_path: Path
):
    command = Command(cache_home, tmp_path / "store")
    grid = ("figure1", "--scale", "smoke", "--train.steps", "4", "--run.max-failures", "0", "--seeds", "0", "1")
    code, out = command.run(*grid, at="before_the_trial")
    assert code == 1, out
    trials = command.trials()
    assert sorted(trials["status"]) == ["failed", "finished"]
    (failed,) = trials.loc[trials["status"] == "failed", "error"]
    assert failed.startswith("the trial's driver ended: ")


def test_a_command_trains_where_home_is_read_only_tmpdir_is_no_place_for_sockets_and_the_output_is_ascii(
    cache_home: Path, tmp_path: Path
):
    """Nobody can write into /proc, root neither."""
    folder = tmp_path / ("é" * 30)
    folder.mkdir()
    environment = {"HOME": "/proc", "TMPDIR": str(folder), "PYTHONIOENCODING": "ascii", "RAY_ADDRESS": "local"}
    code, out = Command(cache_home, tmp_path / "störe", environment).run("train", "--scale", "smoke")
    assert code == 0, out
    assert "Temporary files go to /tmp: " in out
    assert "is not ASCII, and Ray's sockets must be." in out
    assert "measured" in out
    assert f"{tmp_path}/st?re/tables/train_" in out
