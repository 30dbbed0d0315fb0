"""All that is used of Ray's core and is not its public API: a minor release may change it, so Ray is pinned to one.

What is not public of Ray Tune and Ray Train stands in `tune_private`: they take seconds to import, and a detection
needs neither.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import ray
from ray._private import ray_constants, services
from ray._private.node import Node
from ray._private.state import state
from ray._raylet import ActorID, PlacementGroupID
from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # pyright: ignore[reportAttributeAccessIssue]
from ray.util.placement_group import PlacementGroup, remove_placement_group

TOKEN_LOGGER = "ray._private.authentication.authentication_token_setup"
"""Says that a cluster has started, and that it has a token."""


def alive_nodes() -> list[dict[str, Any]]:
    """The cluster's nodes: `NodeID`, `NodeManagerAddress`, `Resources` and more of each."""
    return [node for node in ray.nodes() if node["Alive"]]


def draining_nodes() -> set[str]:
    """Ids of the nodes that Ray has been told to drain."""
    return set(state.get_draining_nodes())


def running_cluster() -> str | None:
    """Host and port of a cluster that `ray start` has started on this machine; None without one."""
    return services.find_bootstrap_address(None)


def resolved_address(address: str) -> str:
    """Host and port of an address as Ray takes it; empty where it finds none.

    Raises:
        ConnectionError: it is `auto`, and no cluster runs on this machine.
    """
    return services.canonicalize_bootstrap_address(address) or ""


def free_places_of_the_dead() -> None:
    """Remove the placement groups of this job whose creator, an actor, has died. Ray keeps them while the job lasts."""
    job = ray.get_runtime_context().get_job_id()
    for content in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(content)
        # Of one that the driver of the job created, which is no actor, Ray says so too.
        is_of_an_actor = not ActorID(group.creator_actor_id).is_nil()
        is_left = group.creator_actor_dead and group.state != PlacementGroupTableData.REMOVED
        if is_of_an_actor and is_left and group.creator_job_id.hex() == job:
            remove_placement_group(PlacementGroup(PlacementGroupID(group.placement_group_id)))


def listen_on_the_loopback_alone() -> None:
    """Have the cluster that this process starts next refuse other machines."""
    # Ray has read the variable of this name when it was imported; its other processes read it when they start.
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False


@contextlib.contextmanager
def quick_start() -> Iterator[None]:
    """Have a cluster that starts meanwhile do without autoscaler, log monitor and dashboard, and find ports at once.

    Ray starts a Python process for each of them, where no dashboard and no logs are asked for too, and waits for the
    dashboard's. And a node's agent, which takes the dashboard's requests, waits three seconds for its fixed port where
    another Ray of this machine has it, and then goes without.
    """

    def start_raylet(node: Node, *arguments: Any, **named: Any) -> None:
        node._ray_params.dashboard_agent_listen_port = 0  # Any that is free.
        before["start_raylet"](node, *arguments, **named)

    useless = ("start_monitor", "start_log_monitor", "start_api_server")
    meanwhile = {**dict.fromkeys(useless, lambda *_, **__: None), "start_raylet": start_raylet}
    before = {name: getattr(Node, name) for name in meanwhile}
    for name, method in meanwhile.items():
        setattr(Node, name, method)
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(Node, name, method)
