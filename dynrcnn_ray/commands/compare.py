"""Compare two finished trials: does the one detect better, or could it be the choice of validation images?

Prints AP, AP50, AP75, AP80 and AP90 of the boxes of both, and the 95 % interval of each difference. The interval comes
from a paired bootstrap: the validation images are drawn anew with replacement, the same ones for both trials, and both
are evaluated on each such sample. Detections are read from the store; nothing is detected again.

The interval holds the two trained models fixed. It does not say what other seeds would give: train several for that.

Command:  dynrcnn compare TRIAL_A TRIAL_B [--samples 1000] [--seed 0]
"""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tyro

from dynrcnn_ray.command_line.command import Call, Command
from dynrcnn_ray.command_line.options import StoreOptions, storage_location
from dynrcnn_ray.config import TrialConfig
from dynrcnn_ray.config_yaml import ConfigError
from dynrcnn_ray.results.store import ResultStore
from dynrcnn_ray.results.trained import finished_trial, stored_detections
from dynrcnn_ray.scales import Scale

if TYPE_CHECKING:
    from dynrcnn_ray.evaluation.bootstrap import Difference
    from dynrcnn_ray.evaluation.ground_truth import GroundTruth
    from dynrcnn_ray.evaluation.matching import Matches

METRICS = ("AP", "AP50", "AP75", "AP80", "AP90")
_SECONDS_BETWEEN_LINES = 5.0


@dataclass(frozen=True)
class CompareOptions(StoreOptions):
    """Options of the command `compare`."""

    trial_a: tyro.conf.Positional[str] = ""
    """Id of a finished trial: a row of `trials` in the storage."""
    trial_b: tyro.conf.Positional[str] = ""
    """Id of another; the differences are its numbers minus those of the first."""
    scale: Scale = "mini"
    """The scale whose default storage to read."""
    samples: int = 1000
    """How many times the images are drawn anew."""
    seed: int = 0
    """Seed of the draws."""


def compare_trials(options: CompareOptions, _call: Call) -> int:
    """Print both trials' metrics, their differences and the intervals of those.

    Raises:
        ConfigError: a missing or wrong argument, or two trials with different validation data.
        StoreError: a trial that the store does not hold, that failed or that has no detections.
        DataError: the validation annotations are no longer there or have changed.
    """
    _check(options)
    store = ResultStore.open(storage_location(options.storage, options.scale))
    row_a, row_b = (finished_trial(store, trial) for trial in (options.trial_a, options.trial_b))
    config = _config_of_both(store, row_a, row_b)

    from dynrcnn_ray.data.layout import annotation_path
    from dynrcnn_ray.data.prepare import prepare_data
    from dynrcnn_ray.evaluation.bootstrap import bootstrap_differences
    from dynrcnn_ray.evaluation.ground_truth import read_ground_truth

    data = prepare_data(config.data, include_masks=config.model.has_masks)
    truth = read_ground_truth(annotation_path(data.root, data.val_split))
    differences = bootstrap_differences(
        _stored_matches(store, row_a, truth),
        _stored_matches(store, row_b, truth),
        METRICS,
        samples=options.samples,
        seed=options.seed,
        on_progress=_progress(options.samples),
    )
    for name, row in (("A", row_a), ("B", row_b)):
        print(f"{name}: {row['trial_id']}  {row['experiment']}, {row['setting']}, seed {row['seed']}")
    print(f"\n{'':<6}{'A':>7}{'B':>7}{'B - A':>8}   95 % interval")
    for difference in differences:
        print(_line(difference))
    print(
        f"\nBoxes on the {len(truth.image_ids)} images of {data.val_split}. Interval: paired bootstrap over images, "
        f"2.5th to 97.5th percentile of {options.samples} samples, seed {options.seed}.\n"
        "It holds the two trained models fixed: it says nothing about other training seeds."
    )
    return 0


def _check(options: CompareOptions) -> None:
    for name in ("trial_a", "trial_b"):
        if not getattr(options, name):
            raise ConfigError(f"{name}: missing; give two ids of finished trials, from the column trial_id of `trials`")
    if options.samples < 1:
        raise ConfigError(f"--samples: {options.samples} must be 1 or greater")
    if options.seed < 0:
        raise ConfigError(f"--seed: {options.seed} must be 0 or greater")


def _config_of_both(store: ResultStore, row_a: dict[str, Any], row_b: dict[str, Any]) -> TrialConfig:
    """The first trial's configuration, once it is clear that both have the same validation images."""
    config, other = store.config_of(row_a), store.config_of(row_b)
    for field in ("fingerprint", "val_split"):
        values = getattr(config.data, field), getattr(other.data, field)
        if values[0] != values[1]:
            raise ConfigError(
                f"data.{field}: {values[0]!r} of trial {row_a['trial_id']} and {values[1]!r} of {row_b['trial_id']} "
                "differ; only trials with the same data can be compared"
            )
    return config


def _stored_matches(store: ResultStore, row: dict[str, Any], truth: "GroundTruth") -> "Matches":
    from dynrcnn_ray.evaluation.inspect_trial import as_arrays
    from dynrcnn_ray.evaluation.matching import match

    return match(truth, as_arrays(stored_detections(store, row)))


def _progress(samples: int) -> Callable[[int], None]:
    """Says now and then how far the bootstrap is; nothing if it is quick."""
    last = time.monotonic()

    def say(done: int) -> None:
        nonlocal last
        if time.monotonic() - last > _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"bootstrap: {done} of {samples} samples", file=sys.stderr, flush=True)

    return say


def _line(difference: "Difference") -> str:
    if math.isnan(difference.difference):
        return f"{difference.metric:<6}{'-':>7}{'-':>7}{'-':>8}   no objects to measure"
    note = "" if difference.differs_from_zero else "   cannot be told from zero"
    interval = f"[{difference.low:+.1f}, {difference.high:+.1f}]"
    numbers = f"{difference.first:>7.1f}{difference.second:>7.1f}{difference.difference:>+8.1f}"
    return f"{difference.metric:<6}{numbers}   {interval:<15}{note}".rstrip()


COMMAND = Command(
    name="compare",
    title="the difference of two trials, with its interval over the images",
    description=__doc__ or "",
    options=CompareOptions,
    run=compare_trials,
)
