"""The Ray cluster: a local one, or the one that `RAY_ADDRESS` names; and what fits on it."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import ray
import yaml

from dynrcnn_ray.config import RunConfig
from dynrcnn_ray.config_yaml import ConfigError

_HEAD = "node:__internal_head__"

# Every Ray head has this resource. A trial's driver asks for a crumb of it, so that drivers sit on the head node and
# take no core from the workers, who would otherwise wait for each other.
DRIVER_RESOURCES = {_HEAD: 0.001}

# `ray up` leaves the cluster's file here on the head node, where jobs run. Ray 2.60 shows nowhere else what its
# autoscaler could add: the cluster configuration in its state is never filled.
_CLUSTER_FILE = Path("~/ray_bootstrap_config.yaml")

_WORKER_ENVIRONMENT = {
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}
# Nobody reclaims this machine, so a trial needs no process that watches for it.
_LOCAL_ENVIRONMENT = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}


@contextlib.contextmanager
def ray_cluster() -> Iterator[None]:
    """Join the cluster of `RAY_ADDRESS`, or start a local one and end it afterwards."""
    os.environ.update({"RAY_AIR_NEW_OUTPUT": "0", **_WORKER_ENVIRONMENT})
    if ray.is_initialized():
        yield
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, runtime_env={"env_vars": _WORKER_ENVIRONMENT})
    else:
        # The processes of a local cluster inherit the variables. By a runtime environment each would start twice.
        os.environ.update(_LOCAL_ENVIRONMENT)
        ray.init(address="local", include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def trials_at_once(run: RunConfig) -> int:
    """How many trials of this kind fit on the cluster together, with the nodes that its autoscaler may still start.

    Raises:
        ConfigError: not even one fits, and none ever will.
    """
    of_worker = {"CPU": run.cpus_per_worker, **({"GPU": 1} if run.gpu else {})}
    running = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    now = sum(_places(node, of_worker) for node in running)
    # The workers that run are among those that there may be, so only the head is added to these.
    head = sum(_places(node, of_worker) for node in running if _HEAD in node)
    later = head + _places_to_start(of_worker)
    field, needed = ("min_workers", run.min_workers) if run.min_workers else ("num_workers", run.num_workers)
    if max(now, later) < needed:
        there = _amounts({kind: ray.cluster_resources().get(kind, 0) for kind in of_worker})
        raise ConfigError(
            f"run.{field}: {needed} workers of {_amounts(of_worker)} each do not fit, the cluster has {there} on "
            f"{len(running)} nodes, places for {now}{_growth(later)}; ask for less, let workers share cores "
            "(run.cpus_per_worker below 1), or add nodes"
        )
    # An elastic trial may start on less than it asks for.
    return max(1, max(now, later) // run.num_workers)


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
    if not os.environ.get("RAY_ADDRESS") or not file.exists():
        return {"head_node_type": "", "max_workers": 0, "available_node_types": {}}
    return yaml.safe_load(file.read_text())


def _amounts(resources: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {kind}" for kind, amount in resources.items())
