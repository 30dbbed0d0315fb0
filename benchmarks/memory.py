"""Resident memory of a training process over many steps."""

import dataclasses
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from benchmarks.schema import Row, at_most, stated_row
from benchmarks.workbench import Workbench, train_split, with_batch, with_steps
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import from_yaml, to_yaml
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.events import Logged
from dynrcnn_ray.training.loop import train
from dynrcnn_ray.training.state import build_training_state

STEPS = 2000
_EVERY = 100
_BATCH = 2
_WARM_UP = 0.25
"""Share of the steps that does not count."""
_MEGABYTE = 1e6
_GPU_STEPS = 50


def measure_memory(bench: Workbench, rounds: int, steps: int = STEPS) -> Iterator[Row]:
    """The growth of a training process after its warm-up. A round is one training."""
    if bench.on_gpu:
        for precision in ("float32", "bfloat16"):
            yield _gpu_row(bench, precision)
        return
    growths, sizes = [], []
    for seed in range(rounds):
        config = with_steps(with_batch(bench.mini, _BATCH), steps, log_every=max(1, steps * _EVERY // STEPS))
        resident = _resident_while_training(config, seed)
        growths.append(growth(resident))
        sizes.append(float(np.median(resident)))
    yield stated_row(
        "memory.growth",
        f"growth of memory over {steps} steps after warm-up, mini",
        float(np.median(growths)),
        "of the memory",
        rounds=rounds,
        must=at_most(0.01, "of the memory"),
        note=f"{_BATCH} images a step; resident memory at each row, a straight line through all but the first quarter; "
        f"the process has {np.median(sizes) / _MEGABYTE:.0f} MB",
    )


def _gpu_row(bench: Workbench, precision: Literal["float32", "bfloat16"]) -> Row:
    """The most that the GPU held in the first steps of a training, images of many sizes."""
    config = dataclasses.replace(bench.resnet, train=dataclasses.replace(bench.resnet.train, precision=precision))
    config = with_steps(config, _GPU_STEPS, log_every=_GPU_STEPS)
    dataset = train_split(config)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(bench.worker.device)
    state = build_training_state(Trial(config), len(dataset.class_names), bench.worker)
    for _ in train(config, state, dataset):
        pass
    reserved = torch.cuda.max_memory_reserved(bench.worker.device)
    return stated_row(
        f"memory.gpu.{precision}",
        f"most memory allocated on the GPU in {_GPU_STEPS} steps, {precision}, ResNet-50 320 px",
        torch.cuda.max_memory_allocated(bench.worker.device) / _MEGABYTE,
        "MB",
        note=f"{config.train.global_batch} images a step; torch had reserved {reserved / _MEGABYTE:.0f} MB",
    )


def growth(resident: list[float]) -> float:
    """The rise of a straight line through the values after warm-up, as a share of their mean."""
    counted = np.array(resident[int(len(resident) * _WARM_UP) :], dtype=np.float64)
    slope = np.polynomial.Polynomial.fit(np.arange(len(counted)), counted, 1).convert().coef[1]
    return float(slope * (len(counted) - 1) / counted.mean())


def _resident_while_training(config: TrialConfig, seed: int) -> list[float]:
    """In a process of its own: this one has trained before, and its heap is no longer that of a worker."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_train_and_watch, (to_yaml(config), seed))


def _train_and_watch(text: str, seed: int) -> list[float]:
    config = from_yaml(text)
    torch.set_num_threads(config.run.threads_per_worker)
    dataset = train_split(config)
    torch.manual_seed(seed)
    state = build_training_state(Trial(config), len(dataset.class_names), Worker())
    resident: list[float] = []
    for event in train(config, state, dataset):
        if isinstance(event, Logged):
            resident.append(_resident())
    return resident


def _resident() -> float:
    """Bytes of this process in memory (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * float(os.sysconf("SC_PAGE_SIZE"))
