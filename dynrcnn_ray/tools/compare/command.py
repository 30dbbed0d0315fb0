"""Compare two finished trials, or a trial with another program's detections: is the one better, or is it chance?

Prints AP, AP50, AP75, AP80 and AP90 of the boxes of both, and the 95 % interval of each difference. The interval comes
from a paired bootstrap: the validation images are drawn anew with replacement, the same ones for both trials, and both
are evaluated on each such sample. Detections are read from the store; nothing is detected again.

The interval covers which images were evaluated, not which seeds were trained: it holds the two trained models fixed.
Two trials are one pair. They tell which of the two models is better, not which setting: train several seeds for that.

The second trial may be in another storage (--storage-b). In its place may stand a COCO results file of any other code
(--results detections.json), such as MMDetection or YOLO write it, of the trial's validation split.

Command:  dynrcnn compare TRIAL_A TRIAL_B [--storage-b DIR] [--samples 1000] [--seed 0] [--data.root DIR]
          dynrcnn compare TRIAL_A --results FILE
"""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.former import with_flags_of_today
from dynrcnn_ray.options.shared import StoredDataOptions, StoredOptions, check_trial_is_named


@dataclass(frozen=True)
class CompareOptions(StoredOptions):
    """Options of the command `compare`."""

    trial_a: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TRIAL_A")] = ""
    """A finished trial of the storage: its id or the beginning of it; `last`, the newest; or best:TABLE, the one with
    the highest AP in that table."""
    trial_b: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TRIAL_B")] = ""
    """Another one; the differences are its numbers minus those of the first."""
    storage_b: str = ""
    """Where the second trial is, if not in the same storage."""
    results: str = ""
    """A COCO results file to compare with, in place of the second trial."""
    samples: int = 1000
    """How many times the images are drawn anew."""
    seed: int = 0
    """Seed of the draws."""
    data: StoredDataOptions = field(default_factory=StoredDataOptions)


def _check(options: CompareOptions, _call: Call) -> None:
    check_trial_is_named(options.trial_a, "trial_a")
    if not options.results:
        check_trial_is_named(options.trial_b, "trial_b")
    if options.results and (options.trial_b or options.storage_b):
        raise ConfigError("--results: stands in place of a second trial; leave that and --storage-b out")
    if options.samples < 1:
        raise ConfigError(f"--samples: {options.samples} must be 1 or greater")
    if options.seed < 0:
        raise ConfigError(f"--seed: {options.seed} must be 0 or greater")


COMMAND = Command(
    name="compare",
    group="Look at results",
    title="the difference of two trials, or to another program's detections, with its interval over the images",
    description=__doc__ or "",
    options=CompareOptions,
    body="dynrcnn_ray.tools.compare.compare:compare_trials",
    check=_check,
    former=with_flags_of_today,
)
