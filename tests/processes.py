"""Processes that are the workers of one training, without Ray."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from dynrcnn_ray.training.collectives import Worker


def run_workers(work: Callable[..., object], count: int, folder: Path, *arguments: Any) -> None:
    """Call `work(worker, *arguments)` in so many processes at once, and wait for their ends.

    They are forked from a server that has imported the engine: each of its own would take four seconds of CPU time.

    Args:
        work: a function of a module.
        count: number of workers.
        folder: where they meet, in a file that must not be there yet.
        arguments: further ones.
    """
    multiprocessing.set_forkserver_preload(["dynrcnn_ray.training.trial"])
    mp.start_processes(_be_worker, (count, folder, work, arguments), nprocs=count, start_method="forkserver")


def _be_worker(rank: int, count: int, folder: Path, work: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=count)
    work(Worker(rank, count), *arguments)
    dist.destroy_process_group()
