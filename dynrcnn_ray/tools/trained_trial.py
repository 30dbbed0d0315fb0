"""The options of commands that use a trained trial."""

from dataclasses import dataclass

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.options.command import function_named
from dynrcnn_ray.options.shared import StoredOptions


@dataclass(frozen=True)
class TrainedTrial(StoredOptions):
    """Which trial is meant."""

    trial: str = ""
    """Id of a trained trial: a row of `trials` in the storage."""


def trained_trial(options: TrainedTrial) -> Trial:
    """The trial as it was trained, from which other options start.

    Raises:
        ConfigError: no trial is named.
        StoreError: the store does not hold it, or it has not finished.
    """
    if not options.trial:
        raise ConfigError("--trial: '' must be the id of a trained trial, from the column trial_id of `trials`")
    return function_named("dynrcnn_ray.tools.checkpoint_of_trial:finished")(options)
