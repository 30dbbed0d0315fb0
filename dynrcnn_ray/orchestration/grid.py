"""A grid of trials under Ray Tune: as many at once as fit, each by a driver of its own."""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from ray import tune
from ray.tune.experiment import Trial

from dynrcnn_ray.config import TrialConfig
from dynrcnn_ray.config_yaml import from_yaml, to_yaml
from dynrcnn_ray.orchestration.cluster import ray_cluster, trials_at_once
from dynrcnn_ray.orchestration.driver import drive_trial, driver_resources, record_lost_driver
from dynrcnn_ray.orchestration.progress import ProgressLines


@dataclass(frozen=True)
class PlannedTrial:
    """A trial and where it was first asked for.

    Attributes:
        config: the run.
        experiment: name of the experiment.
        setting: the row's label.
    """

    config: TrialConfig
    experiment: str
    setting: str


def run_trials(trials: Sequence[PlannedTrial], *, storage: str, git_commit: str) -> None:
    """Run all trials; each leaves its row in the store. One that fails does not stop the others.

    Args:
        trials: at least one; all ask for the same resources.
        storage: the store's absolute path or URI.
        git_commit: the code's commit, for the rows.

    Raises:
        ConfigError: the cluster is too small for one trial.
    """
    # Tune's own closing remarks are about files that we do not ask it for.
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    progress = ProgressLines(len(trials))
    # Tune's own files are of no use afterwards: the store is what counts.
    with ray_cluster(), tempfile.TemporaryDirectory(prefix="dynrcnn_ray_") as scratch:
        for wave in _waves(trials):
            for result in _tuner(wave, storage, git_commit, scratch, progress).fit():
                if result.error and result.config:
                    record_lost_driver(result.config["trial"], result.error)


def _waves(trials: Sequence[PlannedTrial]) -> list[list[PlannedTrial]]:
    """First every training once, then the trials that only test the same weights in another way."""
    first: dict[str, PlannedTrial] = {}
    for trial in trials:
        first.setdefault(trial.config.training_id, trial)
    again = [trial for trial in trials if first[trial.config.training_id] is not trial]
    return [wave for wave in (list(first.values()), again) if wave]


def _tuner(
    trials: Sequence[PlannedTrial], storage: str, git_commit: str, scratch: str, progress: ProgressLines
) -> tune.Tuner:
    described = [
        {
            "config": to_yaml(trial.config),
            "experiment": trial.experiment,
            "setting": trial.setting,
            "storage": storage,
            "git_commit": git_commit,
        }
        for trial in trials
    ]
    run = trials[0].config.run
    return tune.Tuner(
        tune.with_resources(_trainable, driver_resources(run)),
        param_space={"trial": tune.grid_search(described)},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=trials_at_once(run),
            # The process of a driver goes on to the next trial, unless its trial failed.
            reuse_actors=True,
            trial_name_creator=_trial_id,
            trial_dirname_creator=_trial_id,
        ),
        run_config=tune.RunConfig(
            name=trials[0].experiment,
            storage_path=scratch,
            failure_config=tune.FailureConfig(max_failures=run.max_failures),
            callbacks=[progress],
            verbose=0,
        ),
    )


def _trial_id(trial: Trial) -> str:
    return from_yaml(trial.config["trial"]["config"]).trial_id


def _trainable(parameters: dict) -> None:
    drive_trial(parameters["trial"])
