"""A command's own Ray: who can reach it, and that what workers report reaches Tune before the driver's own word."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune
from ray._private.ray_constants import DEFAULT_DASHBOARD_AGENT_LISTEN_PORT
from ray.train._internal.session import get_session

from dynrcnn_ray.execution.callbacks import Reports
from dynrcnn_ray.execution.cluster import ray_cluster

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def listening_before() -> Iterator[set[int]]:
    """The cluster, and the ports on which tests before these have left this process and others listening."""
    before = {connection.laddr.port for connection in _listening()}
    with ray_cluster():
        yield before


def _processes() -> list[Any]:
    """This one and its descendants."""
    import psutil  # Ray brings it along, and has to be imported first.

    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def _listening() -> list[Any]:
    connections = [each for process in _processes() for each in process.net_connections("tcp")]
    return [connection for connection in connections if connection.status == "LISTEN"]


def test_it_starts_no_worker_in_advance_and_leaves_the_agents_port_to_others(listening_before: set[int]):
    _, *children = [each.cmdline() for each in _processes()]
    raylets = [arguments for arguments in children if Path(arguments[0]).name == "raylet"]
    assert raylets
    # A raylet is told by its arguments how to start one.
    others = [" ".join(arguments) for arguments in children if arguments not in raylets]
    assert not [command for command in others if "ray::IDLE" in command or "default_worker.py" in command]
    ports = {connection.laddr.port for connection in _listening()} - listening_before
    assert ports
    assert DEFAULT_DASHBOARD_AGENT_LISTEN_PORT not in ports


def test_it_listens_on_the_loopback_alone(listening_before: set[int]):
    ray.get(ray.remote(lambda: None).remote())
    addresses = [connection.laddr.ip for connection in _listening() if connection.laddr.port not in listening_before]
    assert len(addresses) > 3
    assert {address.removeprefix("::ffff:") for address in addresses} == {"127.0.0.1"}


def report_to_a_slow_session(_: dict[str, Any]) -> None:
    """Two reports of workers and the driver's own, where Tune takes a second to hand on each of a worker.

    Where the two sides wait for each other, the process ends after a minute, and the trial with it.
    """
    watch = threading.Timer(60, os._exit, (1,))
    watch.daemon = True
    watch.start()
    session: Any = get_session()
    report = session.report

    def report_late(metrics: dict[str, Any], **named: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            time.sleep(1)
        report(metrics, **named)

    session.report = report_late
    reports = Reports()
    for step in (1, 2):
        reports.after_report(None, [{"step": step}], None)
    reports.wait_until_taken()
    tune.report({"step": 3})


def test_tune_has_every_report_of_the_workers_before_the_drivers_own(tmp_path: Path):
    run = tune.RunConfig(storage_path=str(tmp_path), verbose=0)
    (result,) = tune.Tuner(report_to_a_slow_session, run_config=run).fit()
    assert result.error is None
    assert result.metrics is not None
    assert (result.metrics["step"], result.metrics["training_iteration"]) == (3, 3)
