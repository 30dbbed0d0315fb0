"""Trials that a store holds."""

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.options.shared import StoredOptions, storage_location
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.results_store import ResultStore


def existing_store(options: StoredOptions) -> ResultStore:
    """The store that the options name, which has to be there.

    Raises:
        StoreError: it is not, or cannot be reached.
    """
    store = ResultStore.open(storage_location(options.storage, options.scale))
    if not store.files.is_there():
        place = store.files.place
        raise StoreError(f"storage {place}: is not there; name the storage of a run with --storage")
    return store


def stored_trial(options: StoredOptions, trial: str) -> Trial:
    """A trial of the store, finished or not.

    Raises:
        StoreError: the store does not hold it, or it is of another release.
    """
    store = ResultStore.open(storage_location(options.storage, options.scale))
    rows = store.trials_so_far([trial], ["trial_id", "status", "config"])
    if rows.empty:
        place = store.files.describe_path("trials")
        raise StoreError(f"{place}: holds no trial {trial!r}; look at its trial_id column")
    return store.trial_of(rows.to_dict("records")[0])
