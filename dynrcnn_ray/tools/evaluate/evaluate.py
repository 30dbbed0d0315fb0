"""What the command `evaluate` does: detects on a split, prints the metrics and writes the results file."""

import dataclasses
import hashlib
import sys

from dynrcnn_ray.config.sections import CheckpointName
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.validation import validate
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.evaluation.results_file import check_results
from dynrcnn_ray.execution.checkpoints import CheckpointFolder
from dynrcnn_ray.options.command import Call
from dynrcnn_ray.options.output import output_folder, write_whole, writing
from dynrcnn_ray.options.shared import storage_location
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.tools.evaluate.checked_split import checked_split
from dynrcnn_ray.tools.evaluate.command import EvaluateOptions
from dynrcnn_ray.tools.evaluate.evaluation import Evaluation, EvaluationFailedError, run_evaluation
from dynrcnn_ray.tools.trained_trial import trained_trial
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.state import CheckpointError, load_trained

_DIGITS = 6


def evaluate_trial(options: EvaluateOptions, _call: Call) -> int:
    """Detect on a split with a trial's last checkpoint; print the metrics and where the results file is."""
    store = ResultStore.open(storage_location(options.storage, options.scale))
    own_id, trained = trained_trial(options)
    trained_id = trained.training_id
    # Tested in another way it is another trial, with an id and results of its own.
    is_same = options.test == trained.config.test
    other_test = dataclasses.replace(trained.config, test=options.test)
    name = own_id if is_same else Trial(other_test, trained.inputs).trial_id
    config = validate(dataclasses.replace(other_test, run=options.run))
    split = options.split or config.data.val_split
    output = output_folder(options.output)
    evaluated = checked_split(options, Trial(config, trained.inputs), split, store)
    dataset = evaluated.dataset
    trial = Trial(config, dataclasses.replace(trained.inputs, data_root=evaluated.root))
    _check_checkpoint(trial, trained_id, store, len(dataset.class_names), options.checkpoint)
    storage = storage_location(options.storage, options.scale)
    other_data = "" if evaluated.is_own else _digits_of(dataset)
    evaluation = Evaluation(trial, name, trained_id, split, storage, options.checkpoint, other_data)
    try:
        metrics = run_evaluation(evaluation)
    except EvaluationFailedError as error:
        print(f"The evaluation has failed: {error}", file=sys.stderr)
        return 1
    file = output / evaluation.file_name
    content = store.files.read_bytes(evaluation.results_file)
    assert content is not None, "the evaluation has just written it"
    with writing(file, besides=f"the results are in {store.files.describe_path(evaluation.results_file)}"):
        write_whole(file, content)
    count = check_results(file, image_ids=dataset.image_ids, category_ids=dataset.category_ids)
    for name, value in metrics.items():
        print(f"{name:<10} {'-' if value is None else f'{value:.1f}'}")
    if not dataset.has_annotations:
        print(f"{dataset.annotation_file.name} has no annotations: the server tells the average precision.")
    print(f"{count} detections in {len(dataset)} images: {file}")
    return 0


def _digits_of(dataset: CocoDataset) -> str:
    """A few digits of the annotations' hash: splits of several folders may have one name."""
    return hashlib.sha256(dataset.annotation_file.read_bytes()).hexdigest()[:_DIGITS]


def _check_checkpoint(
    trial: Trial, training_id: str, store: ResultStore, num_classes: int, which: CheckpointName
) -> None:
    """Refuse a checkpoint that does not fit before anything starts."""
    folder = CheckpointFolder(store.files, training_id)
    checkpoint, _ = folder.require(which, last_step=trial.config.total_steps)
    try:
        load_trained(trial, num_classes, Worker(), checkpoint, training_id)
    except CheckpointError as error:
        raise StoreError(f"{folder.described}: {error}") from None
