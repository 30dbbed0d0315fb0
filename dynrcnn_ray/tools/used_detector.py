"""The detector that a command uses: a finished trial's by one of its checkpoints, or one out of a file."""

from pathlib import Path
from typing import Any, NamedTuple

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.execution.stored_trial import say_which
from dynrcnn_ray.execution.trained_checkpoint import trained_checkpoint
from dynrcnn_ray.models.detector_file import read_detector_file
from dynrcnn_ray.models.weights import WeightsError
from dynrcnn_ray.options.shared import storage_location
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.trained import finished_trial
from dynrcnn_ray.tools.trained_trial import FinishedTrial, TrainedDetector, TrainedTrial, trained_trial
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.state import CheckpointError, load_trained


class UsedDetector(NamedTuple):
    """A trained detector.

    Attributes:
        name: for files that are made of it: the trial's id, or the name of the file that it is from.
        trial: how it is built and tested.
        checkpoint: a training state of the trial, or of one that holds the weights alone.
        category_names: name of each category by its id; labels follow the ascending ids, from 1.
    """

    name: str
    trial: Trial
    checkpoint: dict[str, Any]
    category_names: dict[int, str]


def finished(options: TrainedTrial) -> FinishedTrial:
    """The trial as it was trained.

    Raises:
        StoreError: the store does not hold it, or it has not finished.
    """
    store = _store(options)
    row = finished_trial(store, options.found or options.trial)
    if not options.found:
        say_which(options.trial, row)
    return FinishedTrial(row["trial_id"], store.trial_of(row))


def used_detector(options: TrainedDetector) -> UsedDetector:
    """The detector of the trial or of the file that the options name.

    Raises:
        StoreError: the trial is not there or has not finished, or its checkpoint cannot be used.
        WeightsError: the file cannot be used.
    """
    if options.weights:
        return _out_of_file(Path(options.weights).expanduser())
    trained = trained_trial(options)
    store, trial = _store(options), trained.trial
    checkpoint, names = trained_checkpoint(store, trial, options.checkpoint)
    return UsedDetector(trained.trial_id, trial, checkpoint, names)


def _out_of_file(file: Path) -> UsedDetector:
    try:
        read = read_detector_file(file)
    except WeightsError as error:
        raise WeightsError(f"--weights: {error}") from None
    trial = Trial(read.config)
    checkpoint = {"training_id": trial.training_id, "model": read.state}
    try:
        # Told here in a line; each of the processes that detect would else end by it.
        load_trained(trial, len(read.category_names), Worker(), checkpoint, trial.training_id)
    except CheckpointError as error:
        why = str(error).partition("; move it away")[0]
        raise WeightsError(f"--weights: {str(file)!r}: {why}; export it again") from None
    return UsedDetector(file.stem, trial, checkpoint, read.category_names)


def _store(options: TrainedTrial) -> ResultStore:
    return ResultStore.open(storage_location(options.storage, options.scale))
