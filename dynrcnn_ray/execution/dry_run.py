"""What `--dry-run` says of an experiment: its trials, which of them the storage has, and what this machine lacks."""

import os
from collections.abc import Iterable

from dynrcnn_ray.config.sections import RunConfig
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.execution.address import ray_address
from dynrcnn_ray.experiment.experiment import Experiment, Seeds
from dynrcnn_ray.store.results_store import ResultStore

_STATES = {"finished": "there", "running": "begun", "stalled": "begun, then killed", "failed": "failed before"}
"""By each of `STATUSES`; a trial without a row is new."""


def print_plan(store: ResultStore, experiment: Experiment, base: Trial, seeds: Seeds) -> None:
    """Print an experiment's trials, each with what the storage has of it.

    Args:
        store: where they would be.
        experiment: a table or figure.
        base: with the fingerprint of its data, without which no trial is found.
        seeds: of its rows.
    """
    trials = experiment.trials(base, seeds)
    rows = store.trials_so_far(trials, ["trial_id", "status"])
    states = {trial: _STATES[status] for trial, status in zip(rows["trial_id"], rows["status"], strict=True)}
    there = list(states.values()).count("there")
    print(
        f"{experiment.name}, scale {base.config.scale}: {len(experiment.rows(base.config))} rows, "
        f"{len(trials)} distinct trials, {there} of them in {store.files.place}"
    )
    for trial_id, (setting, trial) in trials.items():
        config = trial.config
        print(
            f"  {trial_id}  seed {config.seed}  {setting:<20}  {config.total_steps} steps of "
            f"{config.train.global_batch} images on {config.run.num_workers} workers  {states.get(trial_id, 'new')}"
        )


def print_what_does_not_fit(runs: Iterable[RunConfig]) -> None:
    """Say where trials ask for more workers than this machine has places for, which the run itself would refuse."""
    cores = os.cpu_count() or 1
    for run in dict.fromkeys(runs):
        places = round(1e4 * cores) // round(1e4 * run.cpus_per_worker)
        needed = run.min_workers or run.num_workers
        if needed > places and not ray_address():
            print(
                f"note: {needed} workers of {run.cpus_per_worker:g} CPU each do not fit on this machine, which has "
                f"{cores} CPU cores: places for {places}; take fewer, which gives the "
                "same result, let workers share cores (--run.cpus-per-worker below 1), or set RAY_ADDRESS to a cluster"
            )
            return
