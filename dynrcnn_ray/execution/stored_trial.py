"""Trials that a store holds."""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.models.weights import split_checkpoint, trial_named
from dynrcnn_ray.options.shared import RunOptions, StoredOptions, storage_location
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.named_trials import may_name_a_trial, trial_id_of
from dynrcnn_ray.store.results_store import ResultStore

_RunOptions = TypeVar("_RunOptions", bound=RunOptions)


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


def stored_trial(options: StoredOptions, name: str) -> Trial:
    """A trial of the store, finished or not.

    Args:
        options: which store.
        name: what names the trial, as `trial_id_of` takes it.

    Raises:
        StoreError: the store does not hold it, or it is of another release.
    """
    store = ResultStore.open(storage_location(options.storage, options.scale))
    trial_id = trial_id_of(store, name)
    columns = ["trial_id", "status", "experiment", "setting", "seed", "config"]
    (row,) = store.trials_so_far([trial_id], columns).to_dict("records")
    say_which(name, row)
    return store.trial_of(row)


def with_trial_id(options: _RunOptions) -> _RunOptions:
    """The same, with the whole id of a trial that `model.detector_weights` names: another one may be `last` later.

    Raises:
        StoreError: several trials have the name, or none has it.
    """
    given = options.model.detector_weights
    name, checkpoint = split_checkpoint(given)
    if not may_name_a_trial(name) or trial_named(given) or Path(given).expanduser().exists():
        return options
    trial_id = trial_id_of(ResultStore.open(storage_location(options.storage, options.scale)), name)
    model = dataclasses.replace(options.model, detector_weights=f"{trial_id}{checkpoint}")
    return dataclasses.replace(options, model=model)


def say_which(name: str, row: Mapping[Any, Any]) -> None:
    """Say which trial a name means, on the standard error, unless it is the whole id.

    Args:
        name: as it was given.
        row: the trial's, as in `schemas.TRIALS`.
    """
    if name != row["trial_id"]:
        described = f"{row['experiment']}, {row['setting']}, seed {row['seed']}"
        print(f"{name}: trial {row['trial_id']}, {described}", file=sys.stderr)
