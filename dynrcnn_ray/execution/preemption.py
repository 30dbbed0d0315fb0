"""Which of a trial's nodes are about to be taken back, as the cloud announces it of spot nodes."""

import os
from collections.abc import Callable

import ray
import ray.train

from dynrcnn_ray.execution.ray_private import draining_nodes

WATCHER = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"
"""Ray Train's switch. "0" on a local cluster: nobody takes this machine back."""


def preempted_nodes(*, is_local: bool) -> Callable[[], set[str]]:
    """What to ask at every row: the ids of the nodes that Ray has been told to drain; the same on every worker.

    Args:
        is_local: whether the trial trains in its driver's process. Ray Train watches over its own workers alone, so
            there Ray's core is asked, as Ray Train does it.
    """
    if os.environ.get(WATCHER) == "0":
        return set
    return _own_node if is_local else _nodes_of_workers


def _nodes_of_workers() -> set[str]:
    info = ray.train.get_preemption_info()
    return set() if info is None else set(info.preempted_node_ids)


def _own_node() -> set[str]:
    return {ray.get_runtime_context().get_node_id()} & draining_nodes()
