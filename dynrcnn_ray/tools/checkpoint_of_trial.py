"""A trained trial that a command names, and its checkpoint."""

from typing import Any

from dynrcnn_ray.config.sections import CheckpointName
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.execution.trained_checkpoint import trained_checkpoint
from dynrcnn_ray.options.shared import storage_location
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.trained import finished_trial
from dynrcnn_ray.tools.trained_trial import TrainedTrial


def finished(options: TrainedTrial) -> Trial:
    """The trial as it was trained.

    Raises:
        StoreError: the store does not hold it, or it has not finished.
    """
    store = ResultStore.open(storage_location(options.storage, options.scale))
    return store.trial_of(finished_trial(store, options.trial))


def usable_checkpoint(
    options: TrainedTrial, trial: Trial, which: CheckpointName
) -> tuple[dict[str, Any], dict[int, str]]:
    """A trial's checkpoint, and the names of its categories by their ids.

    Raises:
        StoreError: the store has no such checkpoint, or another one in its place, or no names.
    """
    return trained_checkpoint(ResultStore.open(storage_location(options.storage, options.scale)), trial, which)
