"""A grid of trials under Tune against the same trials one after another in one process."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from benchmarks.paired import paired, timed
from benchmarks.schema import Row, at_most, compared_row, stated_row
from benchmarks.workbench import Workbench, with_inputs, with_steps
from dynrcnn_ray.config.stored import to_stored
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.execution.job import PlannedTrial
from dynrcnn_ray.execution.trials import run_trials
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.events import outcome_of
from dynrcnn_ray.training.trial import run_trial

NUM_TRIALS = 8
STEPS = 90


def measure_grid(bench: Workbench, rounds: int, num_trials: int = NUM_TRIALS, steps: int = STEPS) -> Iterator[Row]:
    """Wall time from the first trial's start to the last one's row, the start and end of a local Ray included."""
    config = with_steps(bench.mini, steps)
    trials = [with_inputs(config).with_seed(seed) for seed in range(num_trials)]
    folders = iter(bench.scratch / f"grid_{number}" for number in range(10 * rounds))
    stores: list[ResultStore] = []

    def under_tune() -> None:
        storage = next(folders)
        planned = [PlannedTrial(trial, "benchmark", f"trial {trial.config.seed}") for trial in trials]
        run_trials(planned, storage=str(storage), git_commit="")
        stores.append(ResultStore.open(storage))

    def one_after_another() -> None:
        _run_one_after_another(trials, next(folders))

    result = paired(timed(under_tune), timed(one_after_another), rounds=rounds, warm_up=0)
    yield compared_row(
        "grid.wall",
        f"{num_trials} trials of {steps} steps as a Tune grid, mini",
        "the same in one process, one after another",
        result,
        "seconds",
        must=at_most(1.0),
        note="one thread a trial, as many trials at once as cores; starting and ending Ray is counted on the left. The "
        "ratio falls with longer trials: the overhead of a trial stays",
    )
    rows = [store.trials() for store in stores]
    overheads = [
        np.median(trials["wall_seconds"] - trials["train_seconds"] - trials["eval_seconds"]) for trials in rows
    ]
    yield stated_row(
        "grid.overhead",
        "overhead of a trial in the grid",
        float(np.median(overheads)),
        "seconds",
        rounds=rounds,
        note="its wall time less training and evaluation: its driver's imports, reading the data, writing results",
    )


def _run_one_after_another(trials: list[Trial], folder: Path) -> None:
    """The engine alone, each trial's row and dynamics written as the grid does it."""
    store = ResultStore.open(folder)
    for trial in trials:
        config = trial.config
        torch.set_num_threads(config.run.threads_per_worker)
        outcome = outcome_of(run_trial(trial, Worker()))
        store.write_dynamics(trial.trial_id, outcome.history)
        store.write_detections(trial.trial_id, outcome.detections)
        store.write_trial(
            {
                "trial_id": trial.trial_id,
                "experiment": "benchmark",
                "setting": "alone",
                "seed": config.seed,
                "scale": config.scale,
                "num_workers": 1,
                "config": to_stored(trial),
                "status": "finished",
                "finished_at": datetime.now(UTC),
                **outcome.metrics,
            }
        )
