"""slurm.sh on a real Slurm of two nodes: one long job is warned, loses a node and is cancelled, beside a short one."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.store.results_store import ResultStore
from tests.cluster import small_slurm
from tests.cluster.small_slurm import Slurm, wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
LACKS = small_slurm.missing()
pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(bool(LACKS), reason=f"a Slurm cluster needs {', '.join(LACKS)}"),
]
# As on any cluster: a Ray takes a core or two for its start, and there may be others.
SECONDS_TO_START = 240


@dataclass(frozen=True)
class Job:
    """A job of slurm.sh that trains one trial, and where its results go."""

    slurm: Slurm
    number: str
    storage: Path

    @property
    def output(self) -> str:
        return self.slurm.output(self.number)

    def wait_for(self, state: str, seconds: float) -> None:
        wait_for(lambda: self.slurm.state(self.number) == state, seconds, f"{state}:\n{self.output}")

    def wait_for_line(self, pattern: str, seconds: float) -> re.Match[str]:
        """The first match in what it has printed, which must come within the time."""
        wait_for(lambda: bool(re.search(pattern, self.output)), seconds, f"{pattern}:\n{self.output}")
        match = re.search(pattern, self.output)
        assert match
        return match

    def checkpoints(self) -> list[int]:
        """Their steps."""
        return sorted(int(file.stem.removeprefix("step_")) for file in self.storage.glob("checkpoints/*/step_*.pt"))

    def steps(self) -> int:
        """How many lines of its log there are."""
        return len(re.findall("step .*/20000", self.output))

    def folders(self) -> list[Path]:
        """Where its Ray has its files."""
        return list(Path("/tmp").glob(f"dynrcnn_{self.number}"))


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with small_slurm.small_slurm() as running:
        yield running


@pytest.fixture(scope="module")
def submit(
    slurm: Slurm, smoke: TrialConfig, cache_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Job]:
    """Gives slurm.sh to sbatch: the name of the job's storage, sbatch's options, and the trial's."""
    home = tmp_path_factory.mktemp("home")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "HOME": str(home),
        "XDG_CACHE_HOME": str(cache_home),
    }

    def submit(name: str, *options: str, trial: tuple[str, ...]) -> Job:
        command = ["cluster/slurm.sh", "train", "--scale", "smoke", "--storage", str(home / name), *trial]
        number = slurm.submit("--gpus-per-node=0", *options, *command, cwd=REPOSITORY, env=environment)
        return Job(slurm, number, home / name)

    return submit


@pytest.fixture(scope="module")
def long(submit: Callable[..., Job]) -> Job:
    """A job on both nodes that trains for hours, with no checkpoint but that of a warning."""
    trial = ("--train.steps", "20000", "--run.checkpoint-every", "20000")
    job = submit("long", "--cpus-per-task=1", trial=trial)
    job.wait_for_line("step +2/20000", SECONDS_TO_START)
    assert not job.checkpoints()
    return job


@pytest.fixture(scope="module")
def warned(long: Job) -> Job:
    """The long job, which has come near its time limit."""
    hours, minutes, _seconds = long.slurm.show(long.number, "RunTime").split(":")
    limit = 60 * int(hours) + int(minutes) + 2
    long.slurm.run("scontrol", "update", f"JobId={long.number}", f"TimeLimit={limit}")
    # Slurm looks twice a minute.
    long.wait_for_line("The time limit is near", 60)
    # Other tests go on with the job.
    long.slurm.run("scontrol", "update", f"JobId={long.number}", "TimeLimit=24:00:00")
    wait_for(lambda: bool(long.checkpoints()), 120, f"a checkpoint:\n{long.output}")
    return long


def test_the_warning_before_the_time_limit_makes_a_checkpoint_at_once(warned: Job):
    warned.wait_for_line("a node is about to be taken back: a checkpoint is made at once", 10)
    step = warned.checkpoints()[0]
    # It trains on to the limit itself.
    warned.wait_for_line(f"step +{step + 2}/20000", 60)


def test_two_jobs_of_one_user_share_a_node(long: Job, submit: Callable[..., Job]):
    short = submit("short", "--nodes=1", "--nodelist=node1", "--cpus-per-task=2", trial=("--train.steps", "4"))
    short.wait_for("COMPLETED", SECONDS_TO_START)
    (row,) = ResultStore.open(short.storage).trials().to_dict("records")
    assert (row["status"], row["steps"]) == ("finished", 4)
    assert row["git_commit"] not in ("", "unknown")
    assert not short.folders()
    # The end of one Ray is not the other's.
    before = long.steps()
    wait_for(lambda: long.steps() > before + 1, 60, f"further steps:\n{long.output}")


@pytest.fixture(scope="module")
def restarted(warned: Job) -> Job:
    """The long job, which has lost a node and been started anew by Slurm."""
    warned.slurm.kill("node2")
    wait_for(lambda: warned.slurm.show(warned.number, "Restarts") == "1", 60, f"a restart:\n{warned.output}")
    warned.slurm.boot("node2")
    warned.wait_for("RUNNING", 60)
    return warned


def test_a_job_that_lost_a_node_goes_on_from_its_checkpoint(restarted: Job):
    step = restarted.checkpoints()[0]
    restarted.wait_for_line(f"goes on from the checkpoint of step {step}\\b", SECONDS_TO_START)


def test_a_cancelled_job_leaves_its_checkpoint_and_no_process(restarted: Job):
    restarted.slurm.run("scancel", restarted.number)
    restarted.wait_for("CANCELLED", 30)
    assert restarted.checkpoints()
    assert not restarted.folders()
    of_jobs = ("raylet", "gcs_server", "ray::", "main.py", "slurm_script")
    assert not [line for line in restarted.slurm.processes() if any(name in line for name in of_jobs)]
