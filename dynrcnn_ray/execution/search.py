"""A search under Ray Tune: Optuna's TPE suggests trials, and each is driven and stored as a grid's trials are."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.execution.cluster import ray_cluster, trials_at_once
from dynrcnn_ray.execution.driver import drive_trial, driver_resources, record_lost_driver
from dynrcnn_ray.execution.failures import TrialFailure
from dynrcnn_ray.execution.job import TrialJob
from dynrcnn_ray.execution.nodes import storage_seen_by_all
from dynrcnn_ray.execution.progress import ProgressLines
from dynrcnn_ray.execution.temporary import scratch_folder
from dynrcnn_ray.execution.trackers import ended, trackers_of
from dynrcnn_ray.execution.trials import quiet_run, require_what_is_asked_for, trial_name
from dynrcnn_ray.execution.tune_private import Searcher, tune_optuna
from dynrcnn_ray.experiment.experiment import field_value
from dynrcnn_ray.experiment.search_space import Range, Space, labels_of, rounded, trial_at
from dynrcnn_ray.store.results_store import ResultStore

CHECKPOINT_METRIC = "checkpoint_AP"
"""What a worker reports at a checkpoint that it evaluates, but for the one after the last step."""
STOPPED_EARLY = "stopped early by ASHA"
"""The error in the row of a trial that ASHA has ended."""
_ASKS_AT_MOST = 50
"""Suggestions in a row that are trials which the store already holds, before a search ends."""


@dataclass(frozen=True)
class PlannedSearch:
    """A search.

    Attributes:
        name: of its trials' experiment.
        base: what is varied, whose validation split is the part that was kept out of training.
        space: what is varied.
        trials: how many the search has in all, with those that the store already holds.
        seed: of the suggestions.
        stops_early: ASHA ends trials that do badly at their checkpoints.
    """

    name: str
    base: Trial
    space: Space
    trials: int
    seed: int
    stops_early: bool


def run_search(
    search: PlannedSearch,
    known: Mapping[str, float | None],
    interrupted: Sequence[Trial],
    cluster: contextlib.ExitStack,
    *,
    storage: str,
    git_commit: str,
    on_trial: Callable[[Trial], None],
) -> None:
    """Run what is left of a search; each trial leaves its row in the store.

    Args:
        search: what to run.
        known: AP of the trials that an earlier call has finished or stopped early, by their id; None: not known.
        interrupted: trials that an earlier call has begun: they come first, and go on from their checkpoints.
        cluster: takes the Ray cluster, and ends it when it is closed.
        storage: the store's absolute path or URI.
        git_commit: the code's commit, for the rows.
        on_trial: told of each trial before it runs.

    Raises:
        ConfigError: the cluster is too small for one trial, or what the run asks for besides cannot be had.
        DeviceError: the trials ask for GPUs, and this machine, where they would run, has none that can be used.
        NodesError: a node lacks the storage, the data or the weights.
    """
    run = search.base.config.run
    require_what_is_asked_for([run])
    # Only trials at a checkpoint report what ASHA judges by.
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
    left = search.trials - len(known)
    store = ResultStore.open(storage)
    jobs: dict[str, TrialJob] = {}
    trackers = trackers_of(run, storage, jobs)
    progress = ProgressLines(left, jobs)
    callbacks = [progress, *trackers]
    optuna = optuna_search(search, known, store)
    cluster.enter_context(ray_cluster())
    with contextlib.ExitStack() as stack:
        stack.enter_context(ended(trackers))
        scratch = stack.enter_context(scratch_folder())
        # What does not fit is refused before anything is trained.
        at_once = trials_at_once(run)
        marker = stack.enter_context(storage_seen_by_all([search.base], storage))

        def next_job(trial: Trial) -> TrialJob:
            on_trial(trial)
            setting = ", ".join(f"{path} = {cell}" for path, cell in labels_of(trial.config, search.space).items())
            jobs[trial.trial_id] = TrialJob(trial, search.name, setting, storage, marker, git_commit)
            return jobs[trial.trial_id]

        tuner = tune.Tuner(
            tune.with_resources(_drive, driver_resources(run)),
            tune_config=tune.TuneConfig(
                search_alg=_Suggestions(search, optuna, set(known), interrupted, store, next_job),
                scheduler=_asha(search.base.config) if search.stops_early else None,
                num_samples=left,
                max_concurrent_trials=at_once,
                # What a user's module changes in a driver's process ends with that process.
                reuse_actors=not (search.base.config.model.module or "model.module" in search.space),
                trial_name_creator=trial_name,
                trial_dirname_creator=trial_name,
            ),
            run_config=quiet_run("search", run, scratch, callbacks),
        )
        stack.enter_context(progress)
        for result in tuner.fit():
            if result.error:
                record_lost_driver(jobs[Path(result.path).name], result.error)


def _drive(parameters: dict[str, Any]) -> None:
    drive_trial(parameters["job"])


def _asha(base: TrialConfig) -> AsyncHyperBandScheduler:
    return AsyncHyperBandScheduler(
        time_attr="step",
        metric=CHECKPOINT_METRIC,
        mode="max",
        max_t=base.total_steps,
        grace_period=base.run.checkpoint_every,
        reduction_factor=3,
    )


class _Suggestions(Searcher):
    """Optuna's suggestions as trials of this project, judged by the AP of their rows in the store."""

    def __init__(
        self,
        search: PlannedSearch,
        optuna: Searcher,
        seen: set[str],
        interrupted: Sequence[Trial],
        store: ResultStore,
        describe: Callable[[Trial], TrialJob],
    ) -> None:
        super().__init__()
        self._search, self._optuna, self._seen, self._store, self._describe = search, optuna, seen, store, describe
        self._interrupted = list(interrupted)
        self._trials: dict[str, TrialJob] = {}
        self._ids: dict[str, str] = {}
        self._so_far: dict[str, float] = {}

    def set_search_properties(self, *given: Any, **spec: Any) -> bool:
        """The space is set already."""
        return True

    # The type of the base class leaves FINISHED out.
    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The next trial that the store does not hold: what was interrupted, then Optuna's points."""
        if self._interrupted:
            return self._start(trial_id, self._interrupted.pop(0))
        for attempt in range(_ASKS_AT_MOST):
            asked = f"{trial_id}_{attempt}"
            values = self._optuna.suggest(asked)
            if not isinstance(values, dict):
                return values
            try:
                trial = trial_at(self._search.base, rounded(values, self._search.space))
            except ConfigError:
                self._optuna.on_trial_complete(asked, error=True)
                continue
            if trial.trial_id in self._seen:
                self._optuna.on_trial_complete(asked, error=True)
                continue
            self._ids[trial_id] = asked
            return self._start(trial_id, trial)
        return Searcher.FINISHED

    def _start(self, trial_id: str, trial: Trial) -> dict[str, Any]:
        self._seen.add(trial.trial_id)
        self._trials[trial_id] = self._describe(trial)
        return {"trial": trial.trial_id, "job": self._trials[trial_id]}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keep the AP of the newest checkpoint."""
        if CHECKPOINT_METRIC in result:
            self._so_far[trial_id] = result[CHECKPOINT_METRIC]

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna the AP; a trial that was stopped early is judged by its last checkpoint."""
        job = self._trials[trial_id]
        if result and CHECKPOINT_METRIC in result:
            record_lost_driver(job, TrialFailure(STOPPED_EARLY, ""))
        average_precision = self._finished_with(job)
        if average_precision is None:
            average_precision = self._so_far.get(trial_id)
        if asked := self._ids.get(trial_id):
            found = None if average_precision is None else {"AP": average_precision}
            self._optuna.on_trial_complete(asked, found, error=found is None)
        elif average_precision is not None:
            # Optuna has not asked for a trial that was interrupted.
            point = _point(job.config, self._search.space)
            self._optuna.add_evaluated_point(point, average_precision)

    def _finished_with(self, job: TrialJob) -> float | None:
        """AP of the trial's row; None if it has not finished."""
        trial = job.trial.trial_id
        rows = self._store.trials([trial], ["trial_id", "status", "AP"]).to_dict("records")
        return next((row["AP"] or 0.0 for row in rows if row["status"] == "finished"), None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the store is what a search goes on from."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, likewise."""


def optuna_search(search: PlannedSearch, known: Mapping[str, float | None], store: ResultStore) -> Searcher:
    """Optuna's TPE over the space, told of the trials that were measured before.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        import optuna
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
    except ImportError:
        raise ConfigError("search: needs the package optuna: pip install 'dynrcnn-ray[search]'") from None

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space: dict[str, Any] = {}
    for path, values in search.space.items():
        if not isinstance(values, Range):
            space[path] = CategoricalDistribution([_comparable(value) for value in values])
        elif values.is_whole:
            space[path] = IntDistribution(int(values.low), int(values.high), log=values.log)
        else:
            space[path] = FloatDistribution(values.low, values.high, log=values.log)
    points = list(_points(search.space, known, store))
    return tune_optuna(
        space,
        metric="AP",
        mode="max",
        sampler=optuna.samplers.TPESampler(seed=search.seed + len(known)),
        points_to_evaluate=[point for point, _ in points] or None,
        evaluated_rewards=[reward for _, reward in points] or None,
    )


def _points(
    space: Space, known: Mapping[str, float | None], store: ResultStore
) -> Iterator[tuple[dict[str, Any], float]]:
    """The values of the known trials, with their AP where that is known."""
    for row in store.trials(known, ["trial_id", "config"]).to_dict("records"):
        config, average_precision = store.trial_of(row).config, known[row["trial_id"]]
        if average_precision is not None:
            yield _point(config, space), average_precision


def _point(config: TrialConfig, space: Space) -> dict[str, Any]:
    return {path: _comparable(field_value(config, path)) for path in space}


def _comparable(value: Any) -> Any:
    """A choice as Optuna takes it: lists are written as text, which `with_values` reads."""
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else value
