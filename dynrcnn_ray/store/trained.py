"""A finished trial that a command names, and what the store holds of it."""

from typing import Any

import pandas as pd

from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.named_trials import trial_id_of
from dynrcnn_ray.store.results_store import ResultStore


def finished_trial(store: ResultStore, name: str) -> dict[str, Any]:
    """The row of a finished trial, as in `schemas.TRIALS`.

    Args:
        store: where it is.
        name: what names it, as `trial_id_of` takes it.

    Raises:
        StoreError: the store does not hold it, or it has not finished.
    """
    trial_id = trial_id_of(store, name)
    row = {str(field): value for field, value in store.trials_so_far([trial_id]).iloc[0].items()}
    if row["status"] != "finished":
        states = {"running": "it still runs", "stalled": f"stalled since {row['finished_at']:%Y-%m-%d %H:%M} UTC"}
        why = states.get(row["status"]) or row["error"]
        raise StoreError(f"trial {trial_id}: has not finished ({why}); run its command again")
    return row


def stored_detections(store: ResultStore, trial: dict[str, Any]) -> pd.DataFrame:
    """What a finished trial detected on its validation split, columns as in `schemas.DETECTIONS`.

    Raises:
        StoreError: they are not there.
    """
    trial_id = trial["trial_id"]
    rows = store.detections([trial_id])
    # A trial that detected nothing has an AP of zero, and none is missing.
    if rows.empty and trial["AP"] > 0:
        raise StoreError(
            f"{store.files.describe_path(f'detections/{trial_id}.parquet')}: is missing; trials of older releases "
            f"stored no detections: move away trials/{trial_id}.parquet and run the trial's command again"
        )
    return rows


def category_names(store: ResultStore, fingerprint: str) -> dict[int, str]:
    """Names of a data set's categories by their ids, from its stored images; nothing where there are none.

    Labels follow the ascending ids, from 1.
    """
    images = store.images(fingerprint)
    return {} if images.empty else dict(images["category_names"].iloc[0])
