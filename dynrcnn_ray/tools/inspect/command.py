"""Where a finished trial fails on its validation split, from the stored detections: nothing is detected again.

Prints the numbers of each class, the confusion matrix with the background, and the error kinds of TIDE. What was found
stays in the storage, and `report` draws it, with the precision over the recall of each class. It is about boxes, for
Mask R-CNN too: a trial does not store its masks.

Command:  dynrcnn inspect TRIAL [--min-score 0.5] [--data-root DIR]
"""

from dataclasses import dataclass
from typing import Annotated

import tyro

from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.shared import StoredOptions


@dataclass(frozen=True)
class InspectOptions(StoredOptions):
    """Options of the command `inspect`."""

    trial: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TRIAL")] = ""
    """Id of a finished trial: a row of `trials` in the storage."""
    min_score: float = 0.5
    """The confusion matrix takes detections from this score on; the other numbers take all."""
    data_root: str = ""
    """The data set's folder, where the trial trained on another machine; default: the trial's."""


def _check(options: InspectOptions, _call: Call) -> None:
    if not options.trial:
        raise ConfigError("trial: missing; give the id of a finished trial, from the column trial_id of `trials`")
    if not 0 <= options.min_score <= 1:
        raise ConfigError(f"--min-score: {options.min_score} must be from 0 to 1")


COMMAND = Command(
    name="inspect",
    group="Look at results",
    title="where a finished trial fails: classes, confusion, kinds of errors",
    description="Where a finished trial fails on its validation split: numbers of each class, the confusion matrix "
    "with the background, and the error kinds of TIDE. Boxes alone, for Mask R-CNN too. Nothing is detected again.",
    options=InspectOptions,
    body="dynrcnn_ray.tools.inspect.inspect:inspect_trial",
    page_section="dynrcnn_ray.tools.inspect.section:page_section",
    check=_check,
)
