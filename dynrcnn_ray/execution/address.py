"""Which Ray cluster a command joins: the one of `RAY_ADDRESS`, asked before Ray itself would try for minutes."""

import os
import socket

from dynrcnn_ray.config.errors import DynrcnnError

_SECONDS_TO_CONNECT = 3
_SECONDS_TO_ANSWER = 3
_REMEDY = "start it, correct RAY_ADDRESS, or unset it to use this machine alone"


class ClusterError(DynrcnnError, ValueError):
    """There is no Ray cluster to run on. Its text is one line: what was tried, what to do."""

    would_repeat = False


def ray_address() -> str:
    """What `RAY_ADDRESS` names; empty for a cluster of the command's own, which `local` means too."""
    address = os.environ.get("RAY_ADDRESS", "").strip()
    return "" if address == "local" else address


def require_cluster() -> None:
    """Ask the cluster of `RAY_ADDRESS`, where there is one to be joined, whether it is there.

    Raises:
        ClusterError: it is not, or the address is none.
    """
    address = ray_address()
    if address and (complaint := _complaint(_resolved(address))):
        raise ClusterError(f"RAY_ADDRESS={address}: {complaint}; {_REMEDY}")


def refuse_a_cluster_beside_another() -> None:
    """Refuse to start a cluster where `ray start` has started one that may have this machine's GPUs.

    Clusters of other commands do not count: each has its own, and ends it.

    Raises:
        ClusterError: one runs, and `RAY_ADDRESS` does not say whether to use it.
    """
    from dynrcnn_ray.execution.ray_private import running_cluster

    running = None if os.environ.get("RAY_ADDRESS") else running_cluster()
    if running and not _complaint(running):
        raise ClusterError(
            f"a Ray cluster runs on this machine at {running}: set RAY_ADDRESS=auto to use it, or RAY_ADDRESS=local to "
            "start another one beside it"
        )


def _resolved(address: str) -> str:
    """Host and port of an address as Ray takes it."""
    if address.startswith("ray://"):  # Ray Client
        return address.removeprefix("ray://")
    if address != "auto":
        return address
    # Imported late: it imports Ray, which a dry run does not need.
    from dynrcnn_ray.execution.ray_private import resolved_address

    try:
        return resolved_address(address)
    except ConnectionError:
        raise ClusterError(f"RAY_ADDRESS=auto: no Ray cluster runs on this machine; {_REMEDY}") from None


def _complaint(address: str) -> str:
    """Why there is no cluster at an address; nothing if there is one."""
    host, _, port = address.rpartition(":")
    if not host or "/" in address or not port.isdecimal():
        return "is no HOST:PORT, the address of a cluster's head, as `ray start --head` prints it"
    try:
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_CONNECT).close()
    except (OSError, OverflowError) as error:
        return f"no Ray cluster answers there ({error})"
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return ""
    import grpc

    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(_SECONDS_TO_ANSWER)
        except grpc.FutureTimeoutError:
            return f"what listens there does not answer as Ray does within {_SECONDS_TO_ANSWER} seconds"
    return ""
