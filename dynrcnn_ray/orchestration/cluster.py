"""The Ray cluster: a local one, or the one that `RAY_ADDRESS` names; and what fits on it."""

import contextlib
import os
from collections.abc import Iterator

import ray

from dynrcnn_ray.config import ConfigError, RunConfig

# Every Ray head has this resource. A trial's driver asks for a crumb of it, so that drivers sit on the head node and
# take no core from the workers, who would otherwise wait for each other.
DRIVER_RESOURCES = {"node:__internal_head__": 0.001}

_WORKER_ENVIRONMENT = {
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # A worker group may wait for another trial to end, or for a node to start.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "3600",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}


@contextlib.contextmanager
def ray_cluster() -> Iterator[None]:
    """Join the cluster of `RAY_ADDRESS`, or start a local one and end it afterwards."""
    os.environ.update({"RAY_AIR_NEW_OUTPUT": "0", **_WORKER_ENVIRONMENT})
    runtime_env = {"env_vars": _WORKER_ENVIRONMENT}
    if ray.is_initialized():
        yield
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, runtime_env=runtime_env)
    else:
        ray.init(address="local", include_dashboard=False, log_to_driver=False, runtime_env=runtime_env)
    try:
        yield
    finally:
        ray.shutdown()


def trials_at_once(run: RunConfig) -> int:
    """How many trials of this kind fit on the cluster together.

    Raises:
        ConfigError: not even one fits.
    """
    of_worker = {"CPU": run.cpus_per_worker, **({"GPU": 1} if run.gpu else {})}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    # A worker is on one node, so what is left over on two nodes does not add up.
    places = sum(min(int(node.get(kind, 0) // amount) for kind, amount in of_worker.items()) for node in nodes)
    if places < run.num_workers:
        asked = " and ".join(f"{amount} {kind}" for kind, amount in of_worker.items())
        there = " and ".join(f"{ray.cluster_resources().get(kind, 0):g} {kind}" for kind in of_worker)
        raise ConfigError(
            f"run.num_workers: {run.num_workers} workers of {asked} each do not fit, the cluster has {there} on "
            f"{len(nodes)} nodes, places for {places}; ask for less or add nodes"
        )
    return places // run.num_workers
