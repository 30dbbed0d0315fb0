"""Evaluate a trained trial on any split, and write the results file that the COCO server takes.

It runs where trainings run: on the trial's workers and their GPUs, or on those that the section run asks for.
A split with annotations gives average precision as well. One without, such as test-dev2017, gives the file alone.

Command:  dynrcnn evaluate --trial TRIAL_ID --split test-dev2017 [--test.multi-scale]
"""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dynrcnn_ray.config.sections import CheckpointName, RunConfig, TestConfig
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import validate
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.output import output_folder, write_whole, writing
from dynrcnn_ray.options.parsing import parse_first
from dynrcnn_ray.options.shared import storage_location
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.trained import category_names
from dynrcnn_ray.tools.trained_trial import TrainedTrial, trained_trial

if TYPE_CHECKING:
    from dynrcnn_ray.data.coco import CocoDataset


@dataclass(frozen=True)
class EvaluatedData:
    """How to take the split's data."""

    drop_invalid: bool = False
    """Leave out broken annotations and images, where the split would else be refused."""


@dataclass(frozen=True)
class EvaluateOptions(TrainedTrial):
    """Options of the command `evaluate`. The sections test and run start from the trial's own."""

    split: str = ""
    """The split; default: the trial's validation split."""
    data_root: str = ""
    """The data set's folder; default: the trial's."""
    output: Path = Path(".")
    """Folder of the results file."""
    checkpoint: CheckpointName = "last"
    """The trial's last checkpoint; its best one, where it trained with --run.evaluate-checkpoints; or a step's."""
    test: TestConfig = field(default_factory=TestConfig)
    run: RunConfig = field(default_factory=RunConfig)
    data: EvaluatedData = field(default_factory=EvaluatedData)


def _of_the_trial(arguments: Sequence[str]) -> tuple[EvaluateOptions, Sequence[str]]:
    if {"-h", "--help"} & set(arguments):
        return EvaluateOptions(), arguments
    first, rest = parse_first(TrainedTrial, arguments)
    config = trained_trial(first).config
    return EvaluateOptions(first.storage, first.scale, first.trial, test=config.test, run=config.run), rest


def evaluate_trial(options: EvaluateOptions, _call: Call) -> int:
    """Detect on a split with a trial's last checkpoint; print the metrics and where the results file is."""
    store = ResultStore.open(storage_location(options.storage, options.scale))
    trained = trained_trial(options)
    trained_id = trained.training_id
    # Tested in another way it is another trial, with an id and results of its own.
    is_same = options.test == trained.config.test
    other_test = dataclasses.replace(trained.config, test=options.test)
    name = options.trial if is_same else Trial(other_test, trained.inputs).trial_id
    config = validate(dataclasses.replace(other_test, run=options.run))
    split = options.split or config.data.val_split
    output = output_folder(options.output)

    from dynrcnn_ray.evaluation.results_file import check_results

    root, dataset = _checked_split(options, Trial(config, trained.inputs), split, store)
    trial = Trial(config, dataclasses.replace(trained.inputs, data_root=root))
    _check_checkpoint(trial, trained_id, store, len(dataset.class_names), options.checkpoint)
    from dynrcnn_ray.tools.evaluate.evaluation import Evaluation, EvaluationFailedError, run_evaluation

    storage = storage_location(options.storage, options.scale)
    evaluation = Evaluation(trial, name, trained_id, split, storage, options.checkpoint)
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


def _checked_split(options: EvaluateOptions, trial: Trial, split: str, store: ResultStore) -> tuple[str, "CocoDataset"]:
    """The split to detect on, and the folder that it is read from.

    Raises:
        DataError: it cannot be used, or its categories are not those that the trial was trained with.
    """
    from dynrcnn_ray.data.coco import CocoDataset, DataError
    from dynrcnn_ray.data.layout import annotation_path
    from dynrcnn_ray.data.prepare import own_folder, prepare_data, prepare_split

    config, inputs = trial.config, trial.inputs
    data, masks = config.data, config.model.has_masks
    if not (options.data_root or options.data.drop_invalid or split != data.val_split):
        root = prepare_data(data, include_masks=masks, expected=inputs.data).root
        return root, CocoDataset(root, split)
    is_there = annotation_path(inputs.data_root, data.val_split).is_file()
    stored = {} if is_there or not options.data_root else category_names(store, inputs.data)
    if stored:
        # The trial is another machine's: its own data are not needed here.
        trained_root, categories = "", stored
        known_from = store.files.describe_path(f"images/{inputs.data}.parquet")
    else:
        made_again = None if is_there else prepare_data(data, include_masks=masks, expected=inputs.data)
        trained_root = made_again.root if made_again else inputs.data_root
        trained_on = CocoDataset(trained_root, data.val_split)
        categories, known_from = trained_on.category_names, str(trained_on.annotation_file)
    as_asked = dataclasses.replace(data, drop_invalid=options.data.drop_invalid, long_side=_long_side(config))
    # Where one split is divided, its own folder has no more than the whole.
    root = options.data_root or (trained_root if data.val_fraction else own_folder(data))
    root = str(prepare_split(as_asked, root, split, include_masks=masks, classes=categories))
    dataset = CocoDataset(root, split)
    if dataset.category_names != categories:
        raise DataError(
            f"{dataset.annotation_file}: its categories are not those of {known_from}, with which the trial was trained"
        )
    return root, dataset


def _check_checkpoint(
    trial: Trial, training_id: str, store: ResultStore, num_classes: int, which: CheckpointName
) -> None:
    """Refuse a checkpoint that does not fit before anything starts."""
    from dynrcnn_ray.execution.checkpoints import CheckpointFolder
    from dynrcnn_ray.training.collectives import Worker
    from dynrcnn_ray.training.loop import CheckpointError, load_trained

    folder = CheckpointFolder(store.files, training_id)
    checkpoint, _ = folder.require(which, last_step=trial.config.total_steps)
    try:
        load_trained(trial, num_classes, Worker(), checkpoint, training_id)
    except CheckpointError as error:
        raise StoreError(f"{folder.described}: {error}") from None


def _long_side(config: TrialConfig) -> int:
    """The lowest limit of the long side at which the network sees an image."""
    sides = [config.data.long_side, config.test.multi_scale_long_side]
    return min(sides) if config.test.multi_scale else sides[0]


COMMAND = Command(
    name="evaluate",
    group="Use a detector",
    title="evaluate a trained trial on any split; write the COCO server's results file",
    description=__doc__ or "",
    options=EvaluateOptions,
    run=evaluate_trial,
    defaults=_of_the_trial,
)
