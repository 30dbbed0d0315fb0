"""Processes of this machine that exchange by gloo, as the workers of a training on CPUs do."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from dynrcnn_ray.training.collectives import Worker


def in_processes(work: Callable[..., np.ndarray], count: int, scratch: Path, *arguments: Any) -> list[np.ndarray]:
    """Call `work(worker, *arguments)` in so many processes at once.

    Args:
        work: a function of a module.
        count: of processes.
        scratch: for a folder of its own, where they meet.
        arguments: further ones.

    Returns:
        What each of them measured, by rank.
    """
    folder = scratch / uuid.uuid4().hex
    folder.mkdir()
    spawn(_be_worker, (count, folder, work, arguments), nprocs=count)
    return [np.load(folder / f"{rank}.npy") for rank in range(count)]


def _be_worker(
    rank: int, count: int, folder: Path, work: Callable[..., np.ndarray], arguments: tuple[Any, ...]
) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
    np.save(folder / f"{rank}.npy", work(Worker(rank, count), *arguments))
    dist.destroy_process_group()
