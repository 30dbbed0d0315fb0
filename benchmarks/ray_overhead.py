"""A trial's speed under Ray Train against the bare loop, both as the training process itself measures it."""

import dataclasses
import statistics
from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.paired import Paired
from benchmarks.schema import Row, at_least, compared_row
from benchmarks.workbench import Workbench, train_split, with_inputs, with_steps
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.execution.cluster import ray_cluster
from dynrcnn_ray.execution.job import PlannedTrial
from dynrcnn_ray.execution.trials import run_trials
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.loop import train
from dynrcnn_ray.training.state import build_training_state

STEPS = 90


def measure_ray_overhead(bench: Workbench, rounds: int, steps: int = STEPS) -> Iterator[Row]:
    """The same trial in turn; of each the rows of images per second but the first, which holds the warm-up."""
    # Only the end makes a checkpoint: the bare loop makes none.
    config = with_steps(bench.mini, steps, checkpoint_every=10 * steps, log_every=max(1, steps // 6))
    speeds: dict[str, list[float]] = {"tune": [], "train": [], "bare": []}
    with ray_cluster():
        # The first round does not count: a cluster that has just started is still at work.
        for number in range(1 + rounds):
            seeded = dataclasses.replace(config, seed=number)
            # An elastic worker has a process of its own, even a single one.
            elastic = with_steps(seeded, steps, min_workers=1)
            runs = [
                ("tune", lambda: _under_ray(seeded, bench, "tune")),  # noqa: B023
                ("bare", lambda: _bare(seeded)),  # noqa: B023
                ("train", lambda: _under_ray(elastic, bench, "train")),  # noqa: B023
            ]
            for name, run in runs if number % 2 == 0 else reversed(runs):
                speeds[name].append(run())
    for name, kind, what in (
        ("ray.images_per_second", "train", "training in a worker process of Ray Train, mini"),
        ("ray.images_per_second.itself", "tune", "training by Ray Train's local mode, 1 worker, mini"),
    ):
        yield compared_row(
            name,
            what,
            "the engine's loop in this process",
            Paired(np.array(speeds[kind][1:]), np.array(speeds["bare"][1:])),
            "images per second",
            must=at_least(0.98),
            note=f"a round is {steps} steps of each; the median of its logged rows but the first",
        )


def _under_ray(config: TrialConfig, bench: Workbench, kind: str) -> float:
    storage = str(bench.scratch / f"ray_overhead_{kind}_{config.seed}")
    trial = with_inputs(config)
    run_trials([PlannedTrial(trial, "benchmark", kind)], storage=storage, git_commit="")
    rows = ResultStore.open(storage).dynamics([trial.trial_id])
    return float(rows["images_per_second"].iloc[1:].median())


def _bare(config: TrialConfig) -> float:
    torch.set_num_threads(config.run.threads_per_worker)
    dataset = train_split(config)
    state = build_training_state(Trial(config), len(dataset.class_names), Worker())
    for _ in train(config, state, dataset):
        pass
    return statistics.median(row["images_per_second"] for row in state.history[1:])
