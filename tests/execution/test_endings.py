"""Commands that end before their trials do, by signals."""

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynrcnn_ray.config.trial_config import TrialConfig
from tests.cluster.ray_head import processes_with
from tests.execution.commands import read_until, start_command

pytestmark = [pytest.mark.ray, pytest.mark.slow]

LONG = ("--scale", "smoke", "--train.steps", "100000", "--run.checkpoint-every", "5", "--run.log-every", "5")


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    """A command whose processes, Ray's too, are known by its home, where Ray's own files are."""
    return start_command(home, *arguments, "--storage", str(home / "store"), process_group=0, RAY_TMPDIR=str(home))


def assert_nothing_is_left(home: Path) -> None:
    for _ in range(3000):
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


@pytest.mark.parametrize(
    ("command", "number", "code", "goes_on"),
    [
        ("all", signal.SIGINT, 130, r"trial \w+ from step \d+, .+"),
        ("train", signal.SIGTERM, 143, r"trial \w+ from step \d+"),
    ],
)
def test_a_signal_ends_all_in_one_line_that_says_what_goes_on_from_where(
    home: Path, command: str, number: signal.Signals, code: int, goes_on: str
):
    """Ctrl-C in a terminal reaches every process that has not left the command's group."""
    process = start(home, command, *LONG)
    read_until(process, " step     10/")
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    rest, _ = process.communicate()
    assert process.returncode == code
    # Tune may have had more rows to print.
    *rows, line = rest.splitlines()
    assert not [row for row in rows if not row.startswith("[")], rest
    interrupted = rf"interrupted; 0 of \d+ trials are in {home}/store; the same command goes on with {goes_on}"
    assert re.fullmatch(interrupted, line)
    assert_nothing_is_left(home)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_while_ray_starts(home: Path, number: signal.Signals, code: int):
    process = start(home, "train", *LONG)
    read_until(process, "train: 1 trials to run")
    while not processes_with(f"{home}/ray/"):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    rest, _ = process.communicate()
    assert process.returncode == code
    assert rest.splitlines()[-1].startswith("interrupted; 0 of 1 trials are in ")
    assert "Traceback" not in rest
    assert_nothing_is_left(home)
