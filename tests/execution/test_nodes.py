"""Nodes that die under a trial of two workers: real `ray start` processes on this machine, ended by SIGKILL."""

import contextlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.training.collectives import Worker
from tests.cluster.ray_head import Head, ray_head, ray_node
from tests.execution.commands import Command, assert_same_bits, deaths, read_until
from tests.processes import run_workers
from tests.trained_store import train_as

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TWO_WORKERS = ("train", "--scale", "smoke", "--num-workers", "2")


@dataclass(frozen=True)
class Cluster:
    """A head without a core for workers, one node of one core that stays, and nodes that come and die."""

    head: Head
    folder: Path

    @contextlib.contextmanager
    def mortal_node(self) -> Iterator[Callable[[], object]]:
        """A node of one core. After a call of what is yielded, it dies at step 7 of the next trial."""
        markers = self.folder / f"markers_{uuid.uuid4().hex}"
        markers.mkdir()
        with ray_node(self.head, self.folder, **deaths({"in_mid_interval": "cluster"}, markers)) as node:
            yield lambda: (markers / "in_mid_interval").write_text(str(node.pid))

    def command(self, storage: Path) -> Command:
        """The command line on this cluster."""
        return Command(self.folder, storage, self.head.environment | {"RAY_ADDRESS": self.head.address})


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Ray notices a dead node after a second and a half instead of 15, and asks for places anew after five, not 60."""
    folder = tmp_path_factory.mktemp("cluster")
    quick = {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "3"}
    quick |= {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "5"}
    options = ("--num-cpus=0", "--object-store-memory=100000000")
    with ray_head(folder, *options, has_jobs=False, **quick) as head, ray_node(head, folder):
        yield Cluster(head, folder)


def test_an_elastic_trial_goes_on_with_what_remains_and_ends_with_the_bits_of_one_worker(
    cluster: Cluster, smoke: TrialConfig, tmp_path: Path
):
    """First of all: Ray Train counts the nodes that an elastic trial may begin with every 20 seconds from a cluster's
    first trial on. On a cluster that has run another trial it might begin with one worker.
    """
    undisturbed, command = cluster.command(tmp_path / "undisturbed"), cluster.command(tmp_path / "store")
    train_as(Worker(), undisturbed.storage, smoke)
    with cluster.mortal_node() as kill_at_step_7:
        kill_at_step_7()
        code, out = command.run(*TWO_WORKERS, "--run.min-workers", "1")
    assert code == 0, out
    assert "goes on from the checkpoint of step 5\n" in out
    (trial,) = command.trials().to_dict("records")
    assert (trial["status"], trial["num_workers"], trial["workers_at_end"]) == ("finished", 2, 1)
    assert_same_bits(command, undisturbed)


def test_a_trial_waits_for_a_node_in_the_place_of_a_dead_one_and_ends_with_the_same_bits(
    cluster: Cluster, smoke: TrialConfig, tmp_path: Path
):
    """As many workers as before: the trial cannot go on with what remains."""
    undisturbed, command = cluster.command(tmp_path / "undisturbed"), cluster.command(tmp_path / "store")
    run_workers(train_as, 2, tmp_path, undisturbed.storage, smoke)
    with cluster.mortal_node() as kill_at_step_7:
        kill_at_step_7()
        process = command.start(*TWO_WORKERS)
        lines = read_until(process, " interrupted: worker ")
    with ray_node(cluster.head, cluster.folder):
        rest, _ = process.communicate()
    assert process.returncode == 0, lines + rest
    assert "goes on from the checkpoint of step 5\n" in rest
    assert "lack of memory" not in lines
    assert_same_bits(command, undisturbed)
