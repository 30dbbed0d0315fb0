"""Whether every node has what a grid needs: the storage, the data set and the weights. Asked before anything starts."""

import contextlib
import dataclasses
import socket
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.exceptions import GetTimeoutError, NodeDiedError, RayError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dynrcnn_ray.config.errors import DynrcnnError, innermost_line
from dynrcnn_ray.config.sections import DataConfig, ModelConfig
from dynrcnn_ray.config.trial import NOT_FOUND_YET, Inputs, Trial
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.presence import annotations_digest
from dynrcnn_ray.execution.cluster import may_add_nodes
from dynrcnn_ray.execution.ray_private import alive_nodes
from dynrcnn_ray.models.user_module import ModuleError, identify_module
from dynrcnn_ray.models.weights import WeightsError, identify_detector_weights, identify_weights
from dynrcnn_ray.store.files import PARTIAL, StoreError, StoreFiles

MOUNTS = Path("/proc/mounts")
_FOLDER = ".probe"
_SECONDS_TO_ANSWER = 120
_SECONDS_OF_A_WRITE = 24 * 3600
_SECONDS_OF_A_COMMAND = 100 * 24 * 3600
"""What is older was left by a process that was killed."""
_OF_ONE_MACHINE = {"aufs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"}
"""Kinds of file systems that no other machine sees."""
_SHARE_STORAGE = "use --storage s3://bucket/folder, or a mount that all nodes share"
_SHARE_DATA = "put the same files there on every node, or on a mount that all nodes share"


class NodesError(DynrcnnError, ValueError):
    """Nodes that lack what a grid needs. Its text has one line a problem: what, which nodes, the remedy."""

    would_repeat = True


class _Needs(NamedTuple):
    """What a node must have: data sets and weights with their identity on the node where the command runs."""

    data: tuple[tuple[DataConfig, str], ...]
    weights: tuple[tuple[ModelConfig, Inputs], ...]


@contextlib.contextmanager
def storage_seen_by_all(trials: Sequence[Trial], storage: str) -> Iterator[str]:
    """Ask every node of a cluster for the storage, the data and the weights of some trials.

    Yields:
        The name of a file that stays in the storage meanwhile, for `require_marker`.

    Raises:
        NodesError: a node lacks something, or nodes that the autoscaler may add would not see the storage.
        StoreError: the storage cannot be written.
    """
    files = StoreFiles.open(storage)
    place = files.place
    kind = "" if files.scheme else kind_of_file_system(Path(files.root))
    if may_add_nodes() and kind in _OF_ONE_MACHINE:
        raise NodesError(
            f"storage {place}: is a {kind} of this machine alone, which the nodes that the autoscaler may start would "
            f"not see; {_SHARE_STORAGE}"
        )
    nodes = {node["NodeID"]: node for node in alive_nodes()}
    is_alone = len(nodes) < 2 and not may_add_nodes()
    files.delete_older(PARTIAL, _SECONDS_OF_A_WRITE)
    files.delete_older(_FOLDER, _SECONDS_OF_A_COMMAND)
    marker = f"{_FOLDER}/{uuid.uuid4().hex}"
    files.write_bytes(marker, b"")
    try:
        problems = {} if is_alone else _problems(nodes, storage, marker, _needs(trials))
        answers = set(files.names(_FOLDER, ""))
        for node in () if is_alone else nodes.keys() - problems.keys():
            problems[node] = [] if f"{Path(marker).name}-{node}" in answers else [_unseen(place)]
        _refuse(problems, nodes)
        yield marker
    finally:
        for name in files.names(_FOLDER, ""):
            if name.startswith(Path(marker).name):
                files.delete(f"{_FOLDER}/{name}")


def require_marker(files: StoreFiles, marker: str) -> None:
    """Refuse to go on where the storage is another than the command's: results and checkpoints would be lost there.

    Args:
        files: the storage as this process sees it.
        marker: as from `storage_seen_by_all`.

    Raises:
        StoreError: the marker is not there.
    """
    if marker and files.read_bytes(marker) is None:
        place = files.place
        raise StoreError(
            f"storage {place}: on the node {socket.gethostname()} it lacks what the command has left there: its mount "
            "has gone, or it is a disk of the node's own; bring it back and run the same command again, or "
            f"{_SHARE_STORAGE}"
        )


def _problems(nodes: dict[str, Any], storage: str, marker: str, needs: _Needs) -> dict[str, list[str]]:
    """What the nodes lack that have answered so; nothing of those that have gone in the meantime."""
    asked = {
        node: _look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            storage, f"{marker}-{node}", marker, needs
        )
        for node in nodes
    }
    problems: dict[str, list[str]] = {}
    for node, answer in asked.items():
        try:
            if lacking := ray.get(answer, timeout=_SECONDS_TO_ANSWER):
                problems[node] = lacking
        except (NodeDiedError, TaskUnschedulableError):
            problems[node] = []
        except GetTimeoutError:
            problems[node] = [f"no answer within {_SECONDS_TO_ANSWER} seconds; look at `ray status`"]
        except RayError as error:
            problems[node] = [f"this project does not run there ({innermost_line(error)}); install it on every node"]
    return problems


@ray.remote(num_cpus=0, max_retries=0)
def _look(storage: str, own_marker: str, marker: str, needs: _Needs) -> list[str]:
    """Write a marker into the storage and look for the command's; look for the rest. What this node lacks, in lines."""
    lacking = []
    try:
        files = StoreFiles.open(storage)
        if files.read_bytes(marker) is None:
            lacking.append(_unseen(files.place))
        else:
            files.write_bytes(own_marker, b"")
    except StoreError as error:
        lacking.append(str(error).replace(f"/{own_marker}", "").replace(f"/{marker}", ""))
    for data, digest in needs.data:
        try:
            if annotations_digest(data) != digest:
                root = data.train_annotations or data.root
                lacking.append(f"data.root {root}: holds other annotations than the node of the command; {_SHARE_DATA}")
        except DataError as error:
            lacking.append(f"data.root: {error}; {_SHARE_DATA}")
    for model, inputs in needs.weights:
        try:
            if identify_module(model) != inputs.module:
                lacking.append(f"model.module: {model.module!r} is another file there; {_SHARE_DATA}")
            found = identify_weights(model), identify_detector_weights(model)
            if found != (inputs.weights, inputs.detector_weights):
                name = "detector_weights" if model.detector_weights else "weights"
                lacking.append(f"model.{name}: {getattr(model, name)!r} is another file there; {_SHARE_DATA}")
        except (WeightsError, ModuleError) as error:
            lacking.append(f"{str(error).partition(';')[0]}; {_SHARE_DATA}")
    return lacking


def _needs(trials: Sequence[Trial]) -> _Needs:
    """Generated images are made again where they are missing, ImageNet's weights are downloaded."""
    data = {trial.config.data: "" for trial in trials if trial.config.data.is_given}
    models = {(trial.config.model, dataclasses.replace(trial.inputs, data="", data_root="")) for trial in trials}
    files = tuple((model, inputs) for model, inputs in models if inputs != NOT_FOUND_YET)
    return _Needs(tuple((one, annotations_digest(one)) for one in data), files)


def _refuse(problems: dict[str, list[str]], nodes: dict[str, Any]) -> None:
    """Raise if any node lacks something; nodes that lack the same share a line."""
    lacked_by: dict[str, list[str]] = {}
    for node, lacking in problems.items():
        for line in lacking:
            lacked_by.setdefault(line, []).append(f"{nodes[node]['NodeManagerAddress']} ({node[:8]})")
    if lacked_by:
        raise NodesError("\n".join(f"on {', '.join(sorted(where))}: {line}" for line, where in lacked_by.items()))


def _unseen(place: str) -> str:
    return f"storage {place}: is not the one that the command sees, but a disk of its own; {_SHARE_STORAGE}"


def kind_of_file_system(path: Path) -> str:
    """The type of the mount that holds a path, or would; empty where the system does not tell."""
    if not MOUNTS.exists():
        return ""
    while not path.exists():
        path = path.parent
    path = path.resolve()
    # Later lines hide earlier ones.
    kinds = {line.split()[1]: line.split()[2] for line in MOUNTS.read_text().splitlines()}
    return next((kinds[str(folder)] for folder in (path, *path.parents) if str(folder) in kinds), "")
