"""Where a finished trial fails on its validation split, from the stored detections: nothing is detected again.

Prints the numbers of each class, the confusion matrix with the background, and the error kinds of TIDE. What was found
stays in the storage, and `report` draws it, with the precision over the recall of each class. It is about boxes, for
Mask R-CNN too: a trial does not store its masks.

Command:  dynrcnn inspect TRIAL [--min-score 0.5] [--data-root DIR]
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.shared import StoredOptions, storage_location


@dataclass(frozen=True)
class InspectOptions(StoredOptions):
    """Options of the command `inspect`."""

    trial: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TRIAL")] = ""
    """Id of a finished trial: a row of `trials` in the storage."""
    min_score: float = 0.5
    """The confusion matrix takes detections from this score on; the other numbers take all."""
    data_root: str = ""
    """The data set's folder, where the trial trained on another machine; default: the trial's."""


def inspect_trial(options: InspectOptions, _call: Call) -> int:
    """Print where a trial fails, and leave it in the storage.

    Raises:
        ConfigError: a missing or wrong argument.
        StoreError: the store does not hold the trial, or not its detections.
        DataError: the validation annotations are no longer there or have changed.
    """
    if not options.trial:
        raise ConfigError("trial: missing; give the id of a finished trial, from the column trial_id of `trials`")
    if not 0 <= options.min_score <= 1:
        raise ConfigError(f"--min-score: {options.min_score} must be from 0 to 1")
    from dynrcnn_ray.data.coco import CocoDataset
    from dynrcnn_ray.data.prepare import data_here, prepare_data
    from dynrcnn_ray.report.inspection import write_inspection
    from dynrcnn_ray.store.results_store import ResultStore
    from dynrcnn_ray.store.trained import finished_trial, stored_detections
    from dynrcnn_ray.tools.inspect.inspect_trial import as_arrays, inspect_detections

    store = ResultStore.open(storage_location(options.storage, options.scale))
    row = finished_trial(store, options.trial)
    trial = store.trial_of(row)
    config = trial.config
    detections = as_arrays(stored_detections(store, row))
    data, masks = data_here(config.data, options.data_root), config.model.has_masks
    prepared = prepare_data(data, include_masks=masks, expected=trial.inputs.data)
    split = CocoDataset(prepared.root, data.val_split)
    found = inspect_detections(split.annotation_file, split.category_names, detections, min_score=options.min_score)
    write_inspection(store, options.trial, *found)
    print(f"Trial {options.trial}, boxes on the {len(split)} images of {data.val_split}.")
    if config.model.has_masks:
        print("Its masks are not inspected: a trial stores the boxes of its detections alone.")
    print()
    print("\n\n".join(_texts(found.classes, found.errors)))
    print(f"\n{store.files.describe_path(f'errors/{options.trial}.parquet')}; `report` draws it.")
    return 0


def _texts(classes: Sequence[dict[str, Any]], errors: Sequence[dict[str, Any]]) -> list[str]:
    from dynrcnn_ray.report.inspection_tables import class_table, confusion_table, error_table
    from dynrcnn_ray.report.table_text import simple_markdown

    tables = (class_table(classes), error_table(errors), confusion_table(classes, errors))
    return [f"{table.title}\n\n{simple_markdown(table.columns, table.rows)}" for table in tables]


COMMAND = Command(
    name="inspect",
    group="Look at results",
    title="where a finished trial fails: classes, confusion, kinds of errors",
    description="Where a finished trial fails on its validation split: numbers of each class, the confusion matrix "
    "with the background, and the error kinds of TIDE. Boxes alone, for Mask R-CNN too. Nothing is detected again.",
    options=InspectOptions,
    run=inspect_trial,
)
