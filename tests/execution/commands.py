"""The command line in processes of its own, which may be told to die, and what such processes leave."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
import torch

REPOSITORY = Path(__file__).resolve().parents[2]
_DEATHS = Path(__file__).parent / "deaths"
_LIMIT_SECONDS = 600
_GRACE_SECONDS = 60
NOBODY: Mapping[str, str] = MappingProxyType({})
_CLOCKS = ["images_per_second"]
_OF_THE_TRAINING = ["trial_id", "status", "AP", "AP50", "AP75", "AP90", "final_T_now", "final_beta_now", "steps"]


def deaths(who_dies: Mapping[str, str], markers: Path) -> dict[str, str]:
    """The environment in which processes die at moments, each once its file is in `markers` (see `deaths/`)."""
    path = os.pathsep.join(filter(None, [str(_DEATHS), os.environ.get("PYTHONPATH")]))
    at = " ".join(f"{moment}={who}" for moment, who in who_dies.items())
    return {"PYTHONPATH": path, "DIE_AT": at, "DIE_MARKERS": str(markers)}


def start_command(
    home: Path,
    *arguments: str,
    stdout: Any = subprocess.PIPE,
    stderr: int = subprocess.STDOUT,
    process_group: int | None = None,
    **environment: str,
) -> subprocess.Popen[str]:
    """The command line in a process of its own, as a user starts it. Its errors stand in its output.

    After ten minutes it is ended, whatever became of the test, which then fails on its exit code.

    Args:
        home: its working directory and cache.
        arguments: after `experiments/main.py`.
        stdout: where it prints, as `subprocess` takes it.
        stderr: where its errors go, likewise.
        process_group: 0 for one of its own, as a shell gives it.
        environment: further variables. Of this process's, those of Ray are left out.
    """
    outer = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    process = subprocess.Popen(
        [sys.executable, str(REPOSITORY / "experiments" / "main.py"), *arguments],
        cwd=home,
        env=outer | {"XDG_CACHE_HOME": str(home)} | environment,
        stdout=stdout,
        stderr=stderr,
        process_group=process_group,
        # A background job of a shell ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        text=True,
    )
    for seconds, end in ((_LIMIT_SECONDS, process.terminate), (_LIMIT_SECONDS + _GRACE_SECONDS, process.kill)):
        watch = threading.Timer(seconds, end)
        watch.daemon = True
        watch.start()
    return process


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """What a process prints up to the first line that holds this text."""
    assert process.stdout is not None
    read = ""
    for line in process.stdout:
        read += line
        if text in line:
            return read
    raise AssertionError(read)


def run_command(home: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Its exit code and what it printed."""
    process = start_command(home, *arguments, **environment)
    out, _ = process.communicate()
    return process.returncode, out


@dataclass(frozen=True)
class Command:
    """The command line on one storage; what a killed process leaves is for the next one.

    Attributes:
        home: working directory and cache.
        storage: where it writes.
        environment: further variables, such as those of a cluster to join.
    """

    home: Path
    storage: Path
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str, dies: Mapping[str, str] = NOBODY) -> subprocess.Popen[str]:
        """Start it; it or a part of it dies at the moments of `dies`, each once."""
        self._markers.mkdir(exist_ok=True)
        environment = self.environment | (deaths(dies, self._markers) if dies else {})
        process = start_command(self.home, *arguments, "--storage", str(self.storage), **environment)
        for moment in dies:
            (self._markers / moment).write_text(str(process.pid))
        return process

    def run(self, *arguments: str, dies: Mapping[str, str] = NOBODY) -> tuple[int, str]:
        """Its exit code and what it printed."""
        process = self.start(*arguments, dies=dies)
        out, _ = process.communicate()
        assert not list(self._markers.iterdir()), f"nobody died:\n{out}"
        return process.returncode, out

    @property
    def _markers(self) -> Path:
        return self.storage.with_suffix(".markers")

    def trials(self) -> pd.DataFrame:
        """The rows of the store, as pandas reads them."""
        files = sorted((self.storage / "trials").glob("*.parquet"))
        return pd.concat([pd.read_parquet(file) for file in files]) if files else pd.DataFrame()

    def dynamics(self) -> pd.DataFrame:
        """The history of all trials, without what a clock measured."""
        return pd.read_parquet(self.storage / "dynamics").drop(columns=_CLOCKS)

    def last_checkpoint(self) -> dict:
        """The training state after the last step."""
        (file,) = (self.storage / "checkpoints").glob("*/step_00000010.pt")
        return torch.load(file, weights_only=True)


def assert_same_bits(found: Command, expected: Command) -> None:
    """Two stores of one trial: equal weights, momenta, T_now, beta_now, history and metrics."""
    assert found.trials()[_OF_THE_TRAINING].equals(expected.trials()[_OF_THE_TRAINING])
    assert found.dynamics().equals(expected.dynamics())
    ours, theirs = found.last_checkpoint(), expected.last_checkpoint()
    for name, weight in theirs["model"].items():
        assert torch.equal(ours["model"][name], weight), name
    for index, slots in theirs["optimizer"]["state"].items():
        assert torch.equal(ours["optimizer"]["state"][index]["momentum_buffer"], slots["momentum_buffer"])
    for name, value in theirs["dynamic"].items():
        assert torch.equal(torch.as_tensor(ours["dynamic"][name]), torch.as_tensor(value)), name
