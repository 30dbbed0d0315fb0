"""The trained detector that a trial starts from, on all of its workers; a trial's own comes out of the storage."""

from dynrcnn_ray.config.sections import CheckpointName, ModelConfig
from dynrcnn_ray.execution.checkpoints import CheckpointFolder
from dynrcnn_ray.models.detector_weights import DetectorWeights, read_detector_weights, weights_of_content
from dynrcnn_ray.models.weights import trial_named
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.trained import category_names, finished_trial
from dynrcnn_ray.training.collectives import Worker, broadcast_bytes_from_first, broadcast_from_first


def starting_weights(config: ModelConfig, store: ResultStore, worker: Worker) -> DetectorWeights | None:
    """The weights that `model.detector_weights` names; None if it names none.

    The first worker alone looks into the storage, as other nodes may not see it.

    Raises:
        WeightsError: the weights cannot be had.
        StoreError: the trial is not in the storage, or has no such checkpoint.
    """
    if not config.detector_weights:
        return None
    named = trial_named(config.detector_weights)
    if named is None:
        return read_detector_weights(config)
    content, class_names = _of_trial(store, *named) if worker.is_first else (None, None)
    content = broadcast_bytes_from_first(content, worker)
    class_names = broadcast_from_first(class_names, worker)
    assert content is not None
    return weights_of_content(content, f"trial {config.detector_weights}", class_names)


def require_starting_weights(config: ModelConfig, store: ResultStore) -> None:
    """Refuse a detector that is not there before anything starts.

    Raises:
        WeightsError: the weights cannot be had.
        StoreError: the trial is not in the storage, or has no such checkpoint.
    """
    starting_weights(config, store, Worker())


def _of_trial(store: ResultStore, trial_id: str, which: CheckpointName) -> tuple[bytes, list[str] | None]:
    config = store.config_of(finished_trial(store, trial_id))
    _, content = CheckpointFolder(store.files, config.training_id).require(which)
    categories = category_names(store, config.data.fingerprint)
    return content, [categories[category] for category in sorted(categories)] or None
