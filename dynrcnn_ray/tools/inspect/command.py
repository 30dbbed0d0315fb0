"""Where a finished trial fails on its validation split, from the stored detections: nothing is detected again.

Prints the numbers of each class, the confusion matrix with the background, and the error kinds of TIDE. What was found
stays in the storage, and `report` draws it, with the precision over the recall of each class. It is about boxes, for
Mask R-CNN too: a trial does not store its masks.

Command:  dynrcnn inspect TRIAL [--min-score 0.5] [--data.root DIR]
"""

from dataclasses import dataclass, field

from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.former import with_flags_of_today
from dynrcnn_ray.options.shared import StoredDataOptions, TrialOptions, check_trial_is_named


@dataclass(frozen=True)
class InspectOptions(TrialOptions):
    """Options of the command `inspect`."""

    min_score: float = 0.5
    """The confusion matrix takes detections from this score on; the other numbers take all."""
    data: StoredDataOptions = field(default_factory=StoredDataOptions)


def _check(options: InspectOptions, _call: Call) -> None:
    check_trial_is_named(options.trial)
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
    former=with_flags_of_today,
)
