"""Trials that a store holds."""

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.options.shared import StoredOptions, storage_location


def stored_config(options: StoredOptions, trial: str) -> TrialConfig:
    """The configuration of a trial, finished or not.

    Raises:
        StoreError: the store does not hold it, or it is of another release.
    """
    # Imported late: pandas takes a second, and a wrong command should be refused at once.
    from dynrcnn_ray.store.files import StoreError
    from dynrcnn_ray.store.results_store import ResultStore

    store = ResultStore.open(storage_location(options.storage, options.scale))
    rows = store.trials_so_far([trial], ["trial_id", "status", "config"])
    if rows.empty:
        place = store.files.describe_path("trials")
        raise StoreError(f"{place}: holds no trial {trial!r}; look at its trial_id column")
    return store.config_of(rows.to_dict("records")[0])
