"""The checkpoint of a finished trial, with what is needed to say what its detector finds."""

from typing import Any

from dynrcnn_ray.config.sections import CheckpointName
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.execution.checkpoints import CheckpointFolder
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.trained import category_names


def trained_checkpoint(
    store: ResultStore, trial: Trial, which: CheckpointName
) -> tuple[dict[str, Any], dict[int, str]]:
    """A trial's checkpoint, and the names of its categories by their ids.

    Raises:
        StoreError: the store has no such checkpoint, or another one in its place, or no names.
    """
    folder = CheckpointFolder(store.files, trial.training_id)
    checkpoint, _ = folder.require(which, last_step=trial.config.total_steps)
    names = category_names(store, trial.inputs.data)
    if not names:
        place = store.files.describe_path(f"images/{trial.inputs.data}.parquet")
        raise StoreError(f"{place}: is missing, and with it the names of the classes; run the trial's command again")
    return checkpoint, names
