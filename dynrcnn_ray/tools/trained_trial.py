"""The options of commands that use a trained detector: a trial of a store, or a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import tyro

from dynrcnn_ray.config.sections import CheckpointName
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.options.command import function_named
from dynrcnn_ray.options.shared import TrialOptions, check_trial_is_named


@dataclass(frozen=True)
class TrainedTrial(TrialOptions):
    """Which trial is meant, and which of its checkpoints."""

    checkpoint: CheckpointName = "last"
    """The trial's last checkpoint; its best one, where it trained with --run.evaluate-checkpoints; or a step's."""
    found: tyro.conf.Suppress[str] = ""
    """The id of the trial, where its name was looked up before: `last` may be another one a moment later."""


@dataclass(frozen=True)
class TrainedDetector(TrainedTrial):
    """A trained trial, or a file in its place."""

    weights: str = ""
    """In place of a trial: a file that `export --format torchvision` wrote, on whatever machine."""


class FinishedTrial(NamedTuple):
    """A trial that has finished.

    Attributes:
        trial_id: its id in the store.
        trial: as it was trained.
    """

    trial_id: str
    trial: Trial


def trained_trial(options: TrainedTrial) -> FinishedTrial:
    """The trial as it was trained, from which other options start.

    Raises:
        ConfigError: no trial is named.
        StoreError: the store does not hold it, or it has not finished.
    """
    check_trial_is_named(options.trial)
    return function_named("dynrcnn_ray.tools.used_detector:finished")(options)


def check_detector(options: TrainedDetector) -> None:
    """Refuse a detector that is named twice, by halves or not at all, with a `ConfigError`."""
    if not options.weights:
        check_trial_is_named(options.trial, "trial, --weights")
        return
    if options.trial:
        raise ConfigError(f"--weights: stands in place of a trial, and {options.trial!r} is given too; leave one out")
    if options.checkpoint != "last":
        raise ConfigError(f"--checkpoint: {options.checkpoint} is a trial's; a file of weights holds one state alone")
    if not Path(options.weights).expanduser().is_file():
        raise ConfigError(f"--weights: {options.weights!r} is no file; give what `export --format torchvision` wrote")
