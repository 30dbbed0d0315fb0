"""How long a trial takes from its driver's start to its first step, and where the seconds go."""

import dataclasses
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import torch

from dynrcnn_ray.benchmarks.schema import Row, at_most, stated_row
from dynrcnn_ray.benchmarks.workbench import Workbench, train_split, with_steps
from dynrcnn_ray.config import TrialConfig
from dynrcnn_ray.engine.collectives import Worker
from dynrcnn_ray.engine.training import build_training_state
from dynrcnn_ray.orchestration.cluster import ray_cluster
from dynrcnn_ray.orchestration.grid import PlannedTrial, run_trials
from dynrcnn_ray.results.store import ResultStore

FIRST_MEASUREMENT = 11.5
"""Seconds with two trials starting at once, on two quiet cores, when this was first measured."""
_WORKER = "dynrcnn_ray.orchestration.worker"


def measure_startup(bench: Workbench, rounds: int) -> Iterator[Row]:
    """Two trials at once on a fresh cluster, the same two again on the warm one, and the parts that can be timed."""
    config = with_steps(bench.mini, 1, log_every=1)
    first, again = [], []
    for number in range(rounds):
        with ray_cluster():
            first.append(_startup_seconds(config, bench, f"first_{number}"))
            again.append(_startup_seconds(config, bench, f"again_{number}"))
    yield stated_row(
        "startup.first_trials",
        "time to the first step, two trials at once, on a cluster that has just started",
        statistics.median(first),
        "seconds",
        rounds=rounds,
        must=at_most(FIRST_MEASUREMENT / 2, "seconds"),
        note=f"from the start of the trial's driver; must be half of the first measurement, {FIRST_MEASUREMENT} s",
    )
    yield stated_row(
        "startup.later_trials",
        "time to the first step, two trials at once, on a cluster that has run two",
        statistics.median(again),
        "seconds",
        rounds=rounds,
        must=at_most(FIRST_MEASUREMENT / 2, "seconds"),
    )
    imports = [_import_seconds() for _ in range(rounds)]
    yield stated_row(
        "startup.imports",
        "of it: importing all that a worker needs",
        statistics.median(imports),
        "seconds",
        rounds=rounds,
        note="in one process alone; the controller of each trial imports most of it as well",
    )
    yield stated_row(
        "startup.data_and_model",
        "of it: reading the annotations, building model and optimiser",
        statistics.median(_data_and_model_seconds(config) for _ in range(rounds)),
        "seconds",
        rounds=rounds,
    )


def _startup_seconds(config: TrialConfig, bench: Workbench, name: str) -> float:
    """The mean of two trials that start together."""
    storage = str(bench.scratch / f"startup_{name}")
    trials = [dataclasses.replace(config, seed=seed) for seed in range(2)]
    run_trials([PlannedTrial(trial, "benchmark", name) for trial in trials], storage=storage, git_commit="")
    return float(np.mean(ResultStore.open(storage).trials()["startup_seconds"]))


def _import_seconds() -> float:
    code = f"import time; started = time.perf_counter(); import {_WORKER}; print(time.perf_counter() - started)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def _data_and_model_seconds(config: TrialConfig) -> float:
    torch.set_num_threads(config.run.cpus_per_worker)
    started = time.perf_counter()
    dataset = train_split(config)
    build_training_state(config, len(dataset.class_names), Worker())
    return time.perf_counter() - started
