"""What the command `inspect` does: prints where a trial fails, and leaves it in the storage."""

from collections.abc import Sequence
from typing import Any

from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.data.prepare import data_here, prepare_data
from dynrcnn_ray.evaluation.stored_detections import as_arrays
from dynrcnn_ray.options.command import Call
from dynrcnn_ray.options.shared import storage_location
from dynrcnn_ray.report.table_text import simple_markdown
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.trained import finished_trial, stored_detections
from dynrcnn_ray.tools.inspect.command import InspectOptions
from dynrcnn_ray.tools.inspect.inspect_trial import inspect_detections
from dynrcnn_ray.tools.inspect.inspection import write_inspection
from dynrcnn_ray.tools.inspect.inspection_tables import class_table, confusion_table, error_table


def inspect_trial(options: InspectOptions, _call: Call) -> int:
    """Print where a trial fails, and leave it in the storage.

    Raises:
        StoreError: the store does not hold the trial, or not its detections.
        DataError: the validation annotations are no longer there or have changed.
    """
    store = ResultStore.open(storage_location(options.storage, options.scale))
    row = finished_trial(store, options.trial)
    trial_id, trial = row["trial_id"], store.trial_of(row)
    config = trial.config
    detections = as_arrays(stored_detections(store, row))
    data, masks = data_here(config.data, options.data.root), config.model.has_masks
    prepared = prepare_data(data, include_masks=masks, expected=trial.inputs.data)
    split = CocoDataset(prepared.root, data.val_split)
    found = inspect_detections(split.annotation_file, split.category_names, detections, min_score=options.min_score)
    write_inspection(store, trial_id, *found)
    print(f"Trial {trial_id}, boxes on the {len(split)} images of {data.val_split}.")
    if config.model.has_masks:
        print("Its masks are not inspected: a trial stores the boxes of its detections alone.")
    print()
    print("\n\n".join(_texts(found.classes, found.errors)))
    print(f"\n{store.files.describe_path(f'errors/{trial_id}.parquet')}; `report` draws it.")
    return 0


def _texts(classes: Sequence[dict[str, Any]], errors: Sequence[dict[str, Any]]) -> list[str]:
    tables = (class_table(classes), error_table(errors), confusion_table(classes, errors))
    return [f"{table.title}\n\n{simple_markdown(table.columns, table.rows)}" for table in tables]
