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

    Args:
        work: a function of a module.
        count: number of workers.
        folder: where they meet, in a file that must not be there yet.
        arguments: further ones.
    """
    start_processes(_be_worker, (count, folder, work, arguments), nprocs=count)


def start_processes(work: Callable[..., object], arguments: tuple[Any, ...], nprocs: int) -> None:
    """Call `work(rank, *arguments)` in so many processes, as `torch.multiprocessing.spawn` does.

    They are forked from a server that has imported the engine: each of its own would take four seconds of CPU time.
    """
    fork_server()
    mp.start_processes(work, arguments, nprocs=nprocs, start_method="forkserver")


def fork_server() -> Any:
    """The server's context, as `multiprocessing` has it."""
    multiprocessing.set_forkserver_preload(["dynrcnn_ray.training.trial"])
    return multiprocessing.get_context("forkserver")


def _be_worker(rank: int, count: int, folder: Path, work: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=count)
    work(Worker(rank, count), *arguments)
    dist.destroy_process_group()
