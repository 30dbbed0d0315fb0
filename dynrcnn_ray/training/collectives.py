"""What one worker knows of the others, and the few things that workers exchange."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dynrcnn_ray.config.shares import shards_of_worker
from dynrcnn_ray.config.trial_config import TrialConfig


@dataclass(frozen=True)
class Worker:
    """One training process.

    Attributes:
        rank: its number, from 0.
        world_size: how many there are.
        device: where it trains.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def of_this_process(cls, device: torch.device) -> "Worker":
        """The worker that torch's process group says this process is; the only one without a group."""
        if not dist.is_initialized():
            return cls(device=device)
        return cls(dist.get_rank(), dist.get_world_size(), device)

    def shards(self, config: TrialConfig) -> range:
        """The shards of a trial that this worker trains and tests."""
        return shards_of_worker(config.train.shards, self.rank, self.world_size)

    @property
    def is_first(self) -> bool:
        """Whether this worker writes the results."""
        return self.rank == 0


def all_reduce_sum(tensor: Tensor) -> None:
    """Sum a tensor over all workers, in place. With one worker there is nothing to do.

    On CUDA the device's queue waits for the others, not the host.
    """
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(tensor)


def copy_from_first(tensors: Iterable[Tensor], worker: Worker) -> None:
    """Give every worker the first one's values, in place."""
    if worker.world_size > 1:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def broadcast_from_first(value: Any, worker: Worker) -> Any:
    """The first worker's object, small enough to be pickled, on every worker."""
    if worker.world_size == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def broadcast_bytes_from_first(content: bytes | None, worker: Worker) -> bytes | None:
    """The first worker's bytes, which may be hundreds of megabytes, on every worker. None stays None."""
    size = broadcast_from_first(None if content is None else len(content), worker)
    if worker.world_size == 1 or size is None:
        return content
    buffer = torch.empty(size, dtype=torch.uint8)
    if content is not None:
        buffer = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    buffer = buffer.to(worker.device)
    dist.broadcast(buffer, src=0)
    return buffer.cpu().numpy().tobytes()


def differences_of_workers(value: Any, worker: Worker) -> dict[int, Any]:
    """Every worker's small object by rank, if they are not all equal; nothing if they are."""
    if worker.world_size == 1:
        return {}
    values: list[Any] = [None] * worker.world_size
    dist.all_gather_object(values, value)
    return {} if all(other == values[0] for other in values) else dict(enumerate(values))


def gather_on_first(value: Any, worker: Worker) -> list[Any]:
    """Collect one object from every worker, in rank order, on the first. The others get an empty list."""
    if worker.world_size == 1:
        return [value]
    gathered: list[Any] = [None] * worker.world_size if worker.is_first else []
    dist.gather_object(value, gathered if worker.is_first else None, dst=0)
    return gathered
