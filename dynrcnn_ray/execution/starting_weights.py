"""The trained detector that a trial starts from, on all of its workers; a trial's own comes out of the storage."""

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.execution.checkpoints import CheckpointFolder, agreed_content
from dynrcnn_ray.models.detector_weights import (
    DetectorWeights,
    read_detector_weights,
    require_fit,
    weights_of_checkpoint,
)
from dynrcnn_ray.models.weights import trial_named
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.trained import category_names, finished_trial
from dynrcnn_ray.training.collectives import Worker, broadcast_from_first


def starting_weights(trial: Trial, store: ResultStore, worker: Worker) -> DetectorWeights | None:
    """The weights that `model.detector_weights` names; None if it names none.

    The first worker alone looks into the storage, as other nodes may not see it.

    Raises:
        WeightsError: the weights cannot be had.
        StoreError: the trial is not in the storage, or has no such checkpoint.
    """
    config = trial.config.model
    if not config.detector_weights:
        return None
    named = trial_named(config.detector_weights)
    if named is None:
        return read_detector_weights(config, trial.inputs.detector_weights)
    trial_id, which = named
    training_id, last_step, class_names = broadcast_from_first(
        _trained(store, trial_id) if worker.is_first else None, worker
    )
    folder = CheckpointFolder(store.files, training_id)
    content = agreed_content(folder, which, last_step=last_step, worker=worker)
    return weights_of_checkpoint(content, f"trial {config.detector_weights}", class_names)


def require_starting_weights(trial: Trial, store: ResultStore) -> None:
    """Refuse a detector that is not there, or of which a part does not fit, before anything starts.

    Raises:
        WeightsError: the weights cannot be had, or do not fit.
        StoreError: the trial is not in the storage, or has no such checkpoint.
    """
    config, weights = trial.config.model, starting_weights(trial, store, Worker())
    # What somebody's own module builds, it alone knows.
    if weights is not None and not config.module:
        require_fit(trial.config, weights)


def _trained(store: ResultStore, trial_id: str) -> tuple[str, int, list[str] | None]:
    """Whose the trial's checkpoints are, its last step, and its classes in the order of their labels, if known."""
    trial = store.trial_of(finished_trial(store, trial_id))
    categories = category_names(store, trial.inputs.data)
    class_names = [categories[category] for category in sorted(categories)] or None
    return trial.training_id, trial.config.total_steps, class_names
