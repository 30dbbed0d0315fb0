"""The Ray cluster: a local one, or the one that `RAY_ADDRESS` names; and what fits on it."""

import contextlib
import logging
import os
import secrets
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import ray
import yaml

from dynrcnn_ray.config.errors import one_line
from dynrcnn_ray.config.sections import RunConfig
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.execution.address import (
    ClusterError,
    ray_address,
    refuse_a_cluster_beside_another,
    require_cluster,
)
from dynrcnn_ray.execution.ray_private import (
    TOKEN_LOGGER,
    alive_nodes,
    listen_on_the_loopback_alone,
    quick_start,
)
from dynrcnn_ray.execution.temporary import temporary_folder, use_a_folder_that_ray_can_use

_HEAD = "node:__internal_head__"

# Every Ray head has this resource. A trial's driver asks for a tiny share of it: so drivers sit on the head node, and
# take no core from the workers, who would otherwise wait for each other.
DRIVER_RESOURCES = {_HEAD: 0.001}

# `ray up` leaves the cluster's file here on the head node, where jobs run. Ray 2.60 shows nowhere else what its
# autoscaler could add: the cluster configuration in its state is never filled.
_CLUSTER_FILE = Path("~/ray_bootstrap_config.yaml")

_WORKER_ENVIRONMENT = {
    # A trial trains in a thread, and glibc gives threads memory of their own, which `engine.allocator` cannot have
    # kept: whole blocks of it go back to the kernel. It reads this when a process starts, and at no later time.
    "MALLOC_ARENA_MAX": "1",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}
_TOKEN = (
    "a cluster that asks for a token wants RAY_AUTH_MODE=token and its token, in RAY_AUTH_TOKEN or ~/.ray/auth_token"
)
_LOCAL_ENVIRONMENT = {
    # Nobody reclaims this machine, so a trial needs no process that watches for it.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # Ray starts a process a core in advance, for a job without variables of its own. Tune gives each trial some.
    "RAY_prestart_worker_first_driver": "0",
}


_TUNE_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    # Otherwise Tune takes an interrupt for the wish to end one of its grids, and returns as if all had been done.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # The progress lines say that a process has ended; where none takes its place, the row has Ray's whole text.
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}


@contextlib.contextmanager
def ray_cluster() -> Iterator[None]:
    """Join the cluster of `RAY_ADDRESS`, or start a local one and end it afterwards.

    Raises:
        ClusterError: there is no such cluster, or Ray cannot start.
    """
    os.environ.update({**_TUNE_ENVIRONMENT, **_WORKER_ENVIRONMENT})
    # Tune closes with remarks on files that we do not ask it for, and on trials that failed, which have their rows.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    if ray.is_initialized():
        yield
        return
    try:
        with _sigterm_as_before():
            _join_or_start()
        yield
    finally:
        ray.shutdown()


def _join_or_start() -> None:
    require_cluster()
    address = ray_address()
    try:
        if address:
            ray.init(log_to_driver=False, runtime_env={"env_vars": _WORKER_ENVIRONMENT})
            return
        refuse_a_cluster_beside_another()
        use_a_folder_that_ray_can_use()
        # The processes of a local cluster inherit the variables. By a runtime environment each would start twice.
        os.environ.update(_LOCAL_ENVIRONMENT)
        # As Ray does it on macOS; on Linux it would listen on all interfaces.
        listen_on_the_loopback_alone()
        # Ray would write a token of its own into the home, which may be read-only, and where every later Ray finds it.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # That it has started, and that it has a token, is of no use to anybody.
        logging.getLogger(TOKEN_LOGGER).setLevel(logging.ERROR)
        with quick_start():
            ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    except ClusterError:
        raise
    except Exception as error:  # Whatever the machine lacks, Ray raises nearly anything.
        what = f"RAY_ADDRESS={address}: Ray cannot join this cluster" if address else "Ray cannot start on this machine"
        if address and isinstance(error, ConnectionError):
            # Something answers there as Ray does, and takes no call: Ray itself does not say why.
            raise ClusterError(f"{what}: {one_line(error)}; {_TOKEN}") from error
        logs = f"{temporary_folder()}/ray/session_latest/logs"
        raise ClusterError(f"{what}: {one_line(error).rstrip('.')}; {logs} may tell more") from error


@contextlib.contextmanager
def _sigterm_as_before() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it starts, ends by it in ways of its own, and prints where it was."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:
        # What Ray's handler raises.
        if callable(before):
            before(signal.SIGTERM, None)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def trials_at_once(run: RunConfig) -> int:
    """How many trials of this kind fit on the cluster together, with the nodes that its autoscaler may still start.

    Raises:
        ConfigError: not even one fits, and none ever will.
    """
    of_worker = {"CPU": run.cpus_per_worker, **({"GPU": run.gpu} if run.gpu else {})}
    running = [node["Resources"] for node in alive_nodes()]
    now = sum(_places(node, of_worker) for node in running)
    # The workers that run are among those that there may be, so only the head is added to these.
    head = sum(_places(node, of_worker) for node in running if _HEAD in node)
    later = head + _places_to_start(of_worker)
    field, needed = ("min_workers", run.min_workers) if run.min_workers else ("num_workers", run.num_workers)
    if max(now, later) < needed:
        there = _amounts({kind: sum(node.get(kind, 0) for node in running) for kind in of_worker})
        raise ConfigError(
            f"run.{field}: {needed} workers of {_amounts(of_worker)} each do not fit, the cluster has {there} on "
            f"{len(running)} nodes, places for {now}{_growth(later)}; take fewer, "
            "which gives the same result, let workers share cores (run.cpus_per_worker below 1), or add nodes"
        )
    # An elastic trial may start on less than it asks for.
    return max(1, max(now, later) // run.num_workers)


def may_add_nodes() -> bool:
    """Whether an autoscaler may start nodes that are not there yet."""
    cluster = _autoscaled_cluster()
    return cluster["max_workers"] > 0 and len(cluster["available_node_types"]) > 1


def _places(node: Mapping[str, float], of_worker: Mapping[str, float]) -> int:
    """Workers that fit on one node; what is left over on two nodes does not add up to a place."""
    # Ray counts in units of 0.0001; by floats alone, 1 core would have 9 places of 0.1.
    return min(round(1e4 * node.get(kind, 0)) // round(1e4 * amount) for kind, amount in of_worker.items())


def _places_to_start(of_worker: Mapping[str, float]) -> int:
    """Workers that fit on the nodes which the autoscaler may start, those with the most places first."""
    cluster = _autoscaled_cluster()
    head, at_most = cluster["head_node_type"], cluster["max_workers"]
    places = [
        _places(group.get("resources", {}), of_worker)
        for name, group in cluster["available_node_types"].items()
        if name != head
        for _ in range(min(group.get("max_workers", at_most), at_most))
    ]
    return sum(sorted(places, reverse=True)[:at_most])


def _growth(later: int) -> str:
    """What the autoscaler may start, for the message; nothing without one."""
    cluster = _autoscaled_cluster()
    groups = [
        f"{group.get('max_workers', cluster['max_workers'])} {name} of "
        + _amounts({kind: group.get("resources", {}).get(kind, 0) for kind in ("CPU", "GPU")})
        for name, group in cluster["available_node_types"].items()
        if name != cluster["head_node_type"]
    ]
    return f", and for {later} when its autoscaler has started all it may ({', '.join(groups)})" if groups else ""


def _autoscaled_cluster() -> dict:
    """The cluster's file as `ray up` completed it; one without worker nodes where no autoscaler runs."""
    file = _CLUSTER_FILE.expanduser()
    if not ray_address() or not file.exists():
        return {"head_node_type": "", "max_workers": 0, "available_node_types": {}}
    return yaml.safe_load(file.read_text())


def _amounts(resources: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {kind}" for kind, amount in resources.items())
