"""A grid of trials under Ray Tune: as many of a kind at once as fit, each by a driver of its own."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ray import tune

from dynrcnn_ray.config.sections import RunConfig
from dynrcnn_ray.execution.address import ray_address
from dynrcnn_ray.execution.cluster import ray_cluster, trials_at_once
from dynrcnn_ray.execution.driver import drive_trial, driver_resources, record_lost_driver
from dynrcnn_ray.execution.failures import failure_of
from dynrcnn_ray.execution.job import Job, PlannedTrial, TrialJob
from dynrcnn_ray.execution.nodes import storage_seen_by_all
from dynrcnn_ray.execution.progress import ProgressLines
from dynrcnn_ray.execution.temporary import scratch_folder
from dynrcnn_ray.execution.trackers import ended, trackers_of
from dynrcnn_ray.execution.tune_private import Trial, count_no_callbacks

_Job = TypeVar("_Job", bound=Job)


def run_trials(
    trials: Sequence[PlannedTrial],
    *,
    storage: str,
    git_commit: str,
    on_start: Callable[[], object] = lambda: None,
    after_trial: Callable[[str], Iterable[str]] = lambda trial_id: (),
) -> None:
    """Run all trials; each leaves its row in the store. One that fails does not stop the others.

    Args:
        trials: at least one.
        storage: the store's absolute path or URI.
        git_commit: the code's commit, for the rows.
        on_start: called once, when all that can refuse the trials has been asked and none of them has begun.
        after_trial: what to print when a trial has finished, given its id.

    Raises:
        ConfigError: the cluster is too small for one trial, or what the run asks for besides cannot be had.
        DeviceError: the trials ask for GPUs, and this machine, where they would run, has none that can be used.
        NodesError: a node lacks the storage, the data or the weights.
    """
    require_what_is_asked_for(planned.trial.config.run for planned in trials)
    jobs: dict[str, TrialJob] = {}
    progress = ProgressLines(len(trials), jobs, after_trial)
    # Tune's own files are of no use afterwards: the store is what counts.
    trackers = trackers_of(trials[0].trial.config.run, storage, jobs)
    callbacks = [progress, *trackers]
    with ended(trackers), ray_cluster(), scratch_folder() as scratch:
        waves = _waves(trials)
        # What does not fit is refused before anything is trained.
        for wave in waves:
            trials_at_once(wave[0].trial.config.run)
        with storage_seen_by_all([planned.trial for planned in trials], storage) as marker:
            on_start()
            with progress:
                for wave in waves:
                    of_wave = {
                        planned.trial.trial_id: TrialJob(
                            **vars(planned), storage=storage, marker=marker, git_commit=git_commit
                        )
                        for planned in wave
                    }
                    jobs |= of_wave
                    keeps_drivers = not wave[0].trial.config.model.module
                    tuner = _tuner(drive_trial, of_wave, scratch, callbacks, keeps_drivers=keeps_drivers)
                    for result in tuner.fit():
                        if result.error:
                            # Tune knows no configuration of a trial that has reported nothing; its folder has its name.
                            record_lost_driver(jobs[Path(result.path).name], result.error)


def _waves(trials: Sequence[PlannedTrial]) -> list[list[PlannedTrial]]:
    """First every training once, then the trials that only test the same weights in another way.

    The trials of a wave ask for the same resources: a driver that Tune keeps for the next trial holds its own. Those
    that run a user's module stand apart, as their drivers are not kept.
    """
    first: dict[str, PlannedTrial] = {}
    waves: dict[tuple[bool, bool, RunConfig], list[PlannedTrial]] = {}
    for planned in trials:
        config = planned.trial.config
        is_again = first.setdefault(planned.trial.training_id, planned) is not planned
        kind = is_again, bool(config.model.module), _asks_for(config.run)
        waves.setdefault(kind, []).append(planned)
    return [waves[key] for key in sorted(waves, key=lambda key: key[0])]


def _asks_for(run: RunConfig) -> RunConfig:
    """What a run needs of the cluster, and nothing else."""
    names = ("num_workers", "min_workers", "cpus_per_worker", "gpu", "max_failures")
    return RunConfig(**{name: getattr(run, name) for name in names})


def run_one(drive: Callable[[_Job], None], job: _Job) -> dict[str, Any]:
    """Run something else than a training in a trial's place.

    Args:
        drive: what the trial's driver does with the job.
        job: what is to be done, by the workers that its configuration asks for.

    Returns:
        What it reported last; its `ending` says so if the driver itself has failed.

    Raises:
        ConfigError: the cluster is too small.
    """
    require_what_is_asked_for([job.config.run])
    with ray_cluster(), scratch_folder() as scratch:
        jobs = {job.trial.trial_id: job}
        with ProgressLines(1, jobs) as progress:
            (result,) = _tuner(drive, jobs, scratch, [progress]).fit()
        lost = {"ending": f"its driver ended: {failure_of(result.error).reason}"} if result.error else {}
        return {**(result.metrics or {}), **lost}


def require_what_is_asked_for(runs: Iterable[RunConfig]) -> None:
    """Refuse a run on GPUs where it would start on this machine and find none; a cluster's workers look for theirs.

    Raises:
        DeviceError: saying why there is none.
    """
    if not ray_address() and any(run.gpu for run in runs):
        # Imported late: PyTorch takes seconds, and all else that the grid's own process does has no need of it.
        from dynrcnn_ray.training.environment import require_gpu

        require_gpu()


def _tuner(
    drive: Callable[[Any], None],
    jobs: Mapping[str, Job],
    scratch: str,
    callbacks: list[tune.Callback],
    *,
    keeps_drivers: bool = True,
) -> tune.Tuner:
    run = next(iter(jobs.values())).config.run

    # Tune puts a placeholder in the place of what is neither a number nor a text.
    def trainable(parameters: dict[str, Any]) -> None:
        drive(jobs[parameters["trial"]])

    return tune.Tuner(
        tune.with_resources(trainable, driver_resources(run)),
        param_space={"trial": tune.grid_search(list(jobs))},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=trials_at_once(run),
            # The process of a driver goes on to the next trial, unless its trial failed, or has run a user's module.
            reuse_actors=keeps_drivers,
            trial_name_creator=trial_name,
            trial_dirname_creator=trial_name,
        ),
        run_config=quiet_run("grid", run, scratch, callbacks),
    )


def quiet_run(name: str, run: RunConfig, scratch: str, callbacks: Sequence[tune.Callback]) -> tune.RunConfig:
    """How Tune runs trials: of what it would write and print by itself nothing is kept."""
    count_no_callbacks()
    return tune.RunConfig(
        name=name,
        storage_path=scratch,
        failure_config=tune.FailureConfig(max_failures=run.max_failures),
        callbacks=list(callbacks),
        verbose=0,
    )


def trial_name(trial: Trial) -> str:
    """A trial's id as Tune's name of it."""
    return trial.config["trial"]
