"""What was found of a trial's failures, in the store.

```
<storage>/classes/<trial_id>.parquet   the numbers of each class, and the confusion matrix
<storage>/errors/<trial_id>.parquet    TIDE's error kinds
```
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from dynrcnn_ray.store.parquet import to_parquet_bytes
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.schemas import optional, required, versioned
from dynrcnn_ray.store.tables import table_of_rows

CLASSES = versioned(
    [
        required("trial_id", pa.string(), "text"),
        optional("category_id", pa.int64(), "id"),
        required("name", pa.string(), "text"),
        required("objects", pa.int64(), "objects"),
        required("detections", pa.int64(), "detections"),
        *[optional(name, pa.float64(), "percent") for name in ("AP", "AP50", "AP75", "AR")],
        optional("precision", pa.list_(pa.float64()), "percent"),
        required("found_as", pa.list_(pa.int64()), "objects"),
    ]
)
"""A class of a trial's validation split, categories by ascending id. `precision` is the highest at each of 101 recalls
or above, at IoU 0.5. `found_as` is a row of the confusion matrix: how many of its objects were found as each class, the
last number those that were not found. The last row is the background, without an id: detections where no object is."""

ERRORS = versioned(
    [
        required("trial_id", pa.string(), "text"),
        required("kind", pa.string(), "text"),
        required("meaning", pa.string(), "text"),
        required("count", pa.int64(), "errors"),
        required("AP50_gain", pa.float64(), "percent"),
        required("min_score", pa.float64(), "1"),
    ]
)
"""A kind of error on a trial's validation split (TIDE). `AP50_gain` is what AP50 would gain without them.
`min_score` is that of the confusion matrix in `classes`."""


class Inspection(NamedTuple):
    """What was found of one trial: rows as in `CLASSES` and `ERRORS`."""

    classes: list[dict[str, Any]]
    errors: list[dict[str, Any]]


def write_inspection(
    store: ResultStore, trial_id: str, classes: Sequence[Mapping[str, Any]], errors: Sequence[Mapping[str, Any]]
) -> None:
    """Write what was found; fields as in `CLASSES` and `ERRORS`, without `trial_id`. Replaces what was found before.

    Raises:
        StoreError: the storage cannot be written.
    """
    for folder, rows, schema in (("classes", classes, CLASSES), ("errors", errors, ERRORS)):
        relative = f"{folder}/{trial_id}.parquet"
        table = table_of_rows(relative, [{**row, "trial_id": trial_id} for row in rows], schema)
        store.files.write_bytes(relative, to_parquet_bytes(table, relative))


def read_inspection(store: ResultStore, trial_id: str) -> Inspection | None:
    """What was found of a trial; None if nobody looked.

    Raises:
        StoreError: a file is damaged, foreign or of another schema version.
    """
    classes = store.read_table(f"classes/{trial_id}.parquet", CLASSES)
    errors = store.read_table(f"errors/{trial_id}.parquet", ERRORS)
    if classes is None or errors is None:
        return None
    return Inspection(classes.to_pylist(), errors.to_pylist())


def inspected_trials(store: ResultStore) -> list[str]:
    """Ids of the trials that were inspected, sorted."""
    return store.files.names("errors", ".parquet")
