"""Compare two finished trials, or a trial with another program's detections: is the one better, or is it chance?

Prints AP, AP50, AP75, AP80 and AP90 of the boxes of both, and the 95 % interval of each difference. The interval comes
from a paired bootstrap: the validation images are drawn anew with replacement, the same ones for both trials, and both
are evaluated on each such sample. Detections are read from the store; nothing is detected again.

The interval holds the two trained models fixed. It does not say what other seeds would give: train several for that.

The second trial may be in another storage (--storage-b). In its place may stand a COCO results file of any other code
(--results detections.json), such as MMDetection or YOLO write it, of the trial's validation split.

Command:  dynrcnn compare TRIAL_A TRIAL_B [--storage-b DIR] [--samples 1000] [--seed 0] [--data-root DIR]
          dynrcnn compare TRIAL_A --results FILE
"""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from dynrcnn_ray.config.scales import Scale
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.shared import StoreOptions, storage_location
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.trained import finished_trial, stored_detections

if TYPE_CHECKING:
    from dynrcnn_ray.evaluation.ground_truth import GroundTruth
    from dynrcnn_ray.evaluation.matching import Matches
    from dynrcnn_ray.tools.compare.bootstrap import Difference

METRICS = ("AP", "AP50", "AP75", "AP80", "AP90")
_SECONDS_BETWEEN_LINES = 5.0


@dataclass(frozen=True)
class CompareOptions(StoreOptions):
    """Options of the command `compare`."""

    trial_a: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TRIAL_A")] = ""
    """Id of a finished trial: a row of `trials` in the storage."""
    trial_b: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TRIAL_B")] = ""
    """Id of another; the differences are its numbers minus those of the first."""
    storage_b: str = ""
    """Where the second trial is, if not in the same storage."""
    results: str = ""
    """A COCO results file to compare with, in place of the second trial."""
    scale: Scale = "mini"
    """The scale whose default storage to read."""
    samples: int = 1000
    """How many times the images are drawn anew."""
    seed: int = 0
    """Seed of the draws."""
    data_root: str = ""
    """The data set's folder, where the trials trained on another machine; default: the first trial's."""


def compare_trials(options: CompareOptions, _call: Call) -> int:
    """Print both trials' metrics, their differences and the intervals of those.

    Raises:
        ConfigError: a missing or wrong argument, or two trials with different validation data.
        StoreError: a trial that the store does not hold, that failed or that has no detections.
        DataError: the validation annotations are no longer there or have changed.
    """
    _check(options)
    store = ResultStore.open(storage_location(options.storage, options.scale))
    store_b = ResultStore.open(storage_location(options.storage_b, options.scale)) if options.storage_b else store
    row_a = finished_trial(store, options.trial_a)
    row_b = None if options.results else finished_trial(store_b, options.trial_b)
    trial = store.trial_of(row_a)
    if row_b:
        _require_same_images(row_a, trial, row_b, store_b.trial_of(row_b))

    from dynrcnn_ray.data.layout import annotation_path
    from dynrcnn_ray.data.prepare import data_here, prepare_data
    from dynrcnn_ray.evaluation.ground_truth import read_ground_truth
    from dynrcnn_ray.tools.compare.bootstrap import bootstrap_differences

    data, masks = data_here(trial.config.data, options.data_root), trial.config.model.has_masks
    prepared = prepare_data(data, include_masks=masks, expected=trial.inputs.data)
    annotations = annotation_path(prepared.root, data.val_split)
    truth = read_ground_truth(annotations)
    differences = bootstrap_differences(
        _stored_matches(store, row_a, truth),
        _stored_matches(store_b, row_b, truth) if row_b else _matches_of_file(options.results, annotations, truth),
        METRICS,
        samples=options.samples,
        seed=options.seed,
        on_progress=_progress(options.samples),
    )
    print(f"A: {_described(row_a)}\nB: {_described(row_b) if row_b else options.results}")
    print(f"\n{'':<6}{'A':>7}{'B':>7}{'B - A':>8}   95 % interval")
    for difference in differences:
        print(_line(difference))
    print(
        f"\nBoxes on the {len(truth.image_ids)} images of {data.val_split}. Interval: paired bootstrap over images, "
        f"2.5th to 97.5th percentile of {options.samples} samples, seed {options.seed}.\n"
        "It holds the two trained models fixed: it says nothing about other training seeds."
    )
    return 0


def _described(row: dict[str, Any]) -> str:
    return f"{row['trial_id']}  {row['experiment']}, {row['setting']}, seed {row['seed']}"


def _check(options: CompareOptions) -> None:
    for name in ("trial_a", "trial_b"):
        if not (getattr(options, name) or (name == "trial_b" and options.results)):
            raise ConfigError(f"{name}: missing; give two ids of finished trials, from the column trial_id of `trials`")
    if options.results and (options.trial_b or options.storage_b):
        raise ConfigError("--results: stands in place of a second trial; leave that and --storage-b out")
    if options.samples < 1:
        raise ConfigError(f"--samples: {options.samples} must be 1 or greater")
    if options.seed < 0:
        raise ConfigError(f"--seed: {options.seed} must be 0 or greater")


def _require_same_images(row_a: dict[str, Any], trial: Trial, row_b: dict[str, Any], other: Trial) -> None:
    for what, values in (
        ("inputs.data", (trial.inputs.data, other.inputs.data)),
        ("data.val_split", (trial.config.data.val_split, other.config.data.val_split)),
    ):
        if values[0] != values[1]:
            raise ConfigError(
                f"{what}: {values[0]!r} of trial {row_a['trial_id']} and {values[1]!r} of {row_b['trial_id']} "
                "differ; only trials with the same data can be compared"
            )


def _stored_matches(store: ResultStore, row: dict[str, Any], truth: "GroundTruth") -> "Matches":
    from dynrcnn_ray.evaluation.matching import match
    from dynrcnn_ray.tools.inspect.inspect_trial import as_arrays

    return match(truth, as_arrays(stored_detections(store, row)))


def _matches_of_file(file: str, annotations: Path, truth: "GroundTruth") -> "Matches":
    from dynrcnn_ray.evaluation.matching import match
    from dynrcnn_ray.evaluation.results_file import read_results

    detections, notes = read_results(Path(file), annotations)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return match(truth, detections)


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
    group="Look at results",
    title="the difference of two trials, or to another program's detections, with its interval over the images",
    description=__doc__ or "",
    options=CompareOptions,
    run=compare_trials,
)
