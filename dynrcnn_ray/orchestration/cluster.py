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
    there = ray.cluster_resources()
    asked = {"CPU": run.num_workers * run.cpus_per_worker}
    if run.gpu:
        asked["GPU"] = run.num_workers
    for resource, amount in asked.items():
        if there.get(resource, 0) < amount:
            raise ConfigError(
                f"run: a trial asks for {amount} {resource} ({run.num_workers} workers), the cluster has "
                f"{there.get(resource, 0):g}; lower run.num_workers or run.cpus_per_worker, or add nodes"
            )
    return min(int(there[resource] // amount) for resource, amount in asked.items())
