"""What the command `compare` does: prints both trials' metrics, their differences and the intervals of those."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.data.layout import annotation_path
from dynrcnn_ray.data.prepare import data_here, prepare_data
from dynrcnn_ray.evaluation.ground_truth import GroundTruth, read_ground_truth
from dynrcnn_ray.evaluation.matching import Matches, match
from dynrcnn_ray.evaluation.results_file import read_results
from dynrcnn_ray.evaluation.stored_detections import as_arrays
from dynrcnn_ray.options.command import Call
from dynrcnn_ray.options.progress import NowAndThen
from dynrcnn_ray.options.shared import storage_location
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.trained import finished_trial, stored_detections
from dynrcnn_ray.tools.compare.bootstrap import Difference, bootstrap_differences
from dynrcnn_ray.tools.compare.command import CompareOptions

METRICS = ("AP", "AP50", "AP75", "AP80", "AP90")


def compare_trials(options: CompareOptions, _call: Call) -> int:
    """Print both trials' metrics, their differences and the intervals of those.

    Raises:
        ConfigError: two trials with different validation data.
        StoreError: a trial that the store does not hold, that failed or that has no detections.
        DataError: the validation annotations are no longer there or have changed.
    """
    store = ResultStore.open(storage_location(options.storage, options.scale))
    store_b = ResultStore.open(storage_location(options.storage_b, options.scale)) if options.storage_b else store
    row_a = finished_trial(store, options.trial_a)
    row_b = None if options.results else finished_trial(store_b, options.trial_b)
    trial = store.trial_of(row_a)
    if row_b:
        _require_same_images(row_a, trial, row_b, store_b.trial_of(row_b))

    data, masks = data_here(trial.config.data, options.data.root), trial.config.model.has_masks
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
        "It covers which images were evaluated, not which seeds were trained: it holds the two trained models fixed.\n"
        "Two trials are one pair: this tells which of the two models is better, not which setting is better. For that, "
        "train\nseveral seeds of both in one table, whose intervals are over the seeds."
    )
    return 0


def _described(row: dict[str, Any]) -> str:
    return f"{row['trial_id']}  {row['experiment']}, {row['setting']}, seed {row['seed']}"


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


def _stored_matches(store: ResultStore, row: dict[str, Any], truth: GroundTruth) -> Matches:
    return match(truth, as_arrays(stored_detections(store, row)))


def _matches_of_file(file: str, annotations: Path, truth: GroundTruth) -> Matches:
    detections, notes = read_results(Path(file), annotations)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return match(truth, detections)


def _progress(samples: int) -> Callable[[int], None]:
    """Says now and then how far the bootstrap is; nothing if it is quick."""
    lines = NowAndThen()

    def say(done: int) -> None:
        if lines.is_due():
            print(f"bootstrap: {done} of {samples} samples", file=sys.stderr, flush=True)

    return say


def _line(difference: Difference) -> str:
    if math.isnan(difference.difference):
        return f"{difference.metric:<6}{'-':>7}{'-':>7}{'-':>8}   no objects to measure"
    note = "" if difference.differs_from_zero else "   cannot be told from zero"
    interval = f"[{difference.low:+.1f}, {difference.high:+.1f}]"
    numbers = f"{difference.first:>7.1f}{difference.second:>7.1f}{difference.difference:>+8.1f}"
    return f"{difference.metric:<6}{numbers}   {interval:<15}{note}".rstrip()
