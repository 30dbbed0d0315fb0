"""`ray job submit` on a head of this machine, with a token: progress, rows, stopping, going on."""

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.cluster.ray_head import RAY, Head, ray_head

REPOSITORY = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A head with one core: one trial at a time."""
    with ray_head(tmp_path_factory.mktemp("home"), "--num-cpus=1", "--object-store-memory=200000000") as started:
        yield started


HOLD = """
import time
from pathlib import Path
from dynrcnn_ray.models.detector import build_model as packaged

def build_model(config, num_classes, dynamic):
    while config.seed and Path({marker!r}).exists():
        time.sleep(0.1)
    return packaged(config, num_classes, dynamic)
"""
"""A module that builds the detector of no seed but the first while a file is there."""


def figure1(storage: Path) -> list[str]:
    """Three trials, all but the first of which may be held, so that a stop hits the grid in the middle."""
    trial = ["--scale", "smoke", "--train.steps", "8", "--run.log-every", "4", "--run.checkpoint-every", "8"]
    commit = ["env", "DYNRCNN_COMMIT=0123456789ab"]
    grid = ["python", "experiments/main.py", "figure1", "--seeds", "0", "1", "2"]
    return [*commit, *grid, *trial, "--model.module", f"{storage}.py", "--storage", str(storage)]


def job(head: Head, verb: str, *arguments: str) -> str:
    """Run `ray job` as the README says, in the repository; what it printed, without colours."""
    line = [RAY, "job", verb, "--address", head.jobs, *arguments]
    done = subprocess.run(
        line, cwd=REPOSITORY, env=head.environment, capture_output=True, text=True, timeout=300, check=False
    )
    out = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    assert done.returncode == 0, out
    return out


def finished_trials(storage: Path) -> set[str]:
    if not list((storage / "trials").glob("*.parquet")):
        return set()
    trials = pd.read_parquet(storage / "trials")
    return set(trials.loc[trials["status"] == "finished", "trial_id"])


def test_a_stopped_job_leaves_what_it_finished_and_the_next_one_does_the_rest(head: Head, tmp_path: Path):
    held, tmp_path = tmp_path / "held", tmp_path / "store"
    held.touch()
    Path(f"{tmp_path}.py").write_text(HOLD.format(marker=str(held)))
    job(head, "submit", "--working-dir", ".", "--no-wait", "--submission-id", "to-be-stopped", "--", *figure1(tmp_path))
    deadline = time.monotonic() + 400
    while not finished_trials(tmp_path):
        assert time.monotonic() < deadline, job(head, "logs", "to-be-stopped")
        time.sleep(0.2)
    assert "was stopped" in job(head, "stop", "to-be-stopped")
    before = finished_trials(tmp_path)
    assert len(before) == 1
    held.unlink()
    written = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "trials").iterdir() if file.stem in before}

    out = job(head, "submit", "--working-dir", ".", "--", *figure1(tmp_path))
    assert f"figure1: {3 - len(before)} trials to run, {len(before)} already in {tmp_path}." in out
    started = set(re.findall(r"starts: trial (\w+),", out))
    assert started.isdisjoint(before)
    assert len(finished_trials(tmp_path)) == 3
    assert {name: (tmp_path / "trials" / name).stat().st_mtime_ns for name in written} == written
    assert set(pd.read_parquet(tmp_path / "trials")["git_commit"]) == {"0123456789ab"}
    # The progress of a grid on the user's own machine, streamed.
    steps = [line for line in out.splitlines() if re.match(r"\[\d/\d\] .* step +\d+/8  loss ", line)]
    assert {line.split("]")[0] for line in steps} == {f"[{n}/{len(started)}" for n in range(1, len(started) + 1)}
    assert all("T_now" in line and "images/s" in line for line in steps)
    assert f"{tmp_path}/figures/figure1.png" in out
    assert "succeeded" in out


def test_without_the_token_the_job_server_answers_nobody(head: Head, tmp_path: Path):
    env = {name: value for name, value in head.environment.items() if name != "RAY_AUTH_MODE"} | {"HOME": str(tmp_path)}
    asked = subprocess.run(
        [RAY, "job", "list", "--address", head.jobs], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert asked.returncode != 0
    assert "Unauthorized" in asked.stdout + asked.stderr or "401" in asked.stdout + asked.stderr
