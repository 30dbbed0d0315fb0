"""Evaluate a trained trial on any split, and write the results file that the COCO server takes.

A split with annotations gives average precision as well. One without, such as test-dev2017, gives the file alone.

Command:  python experiments/main.py evaluate --trial TRIAL_ID --split test-dev2017 [--test.multi-scale]
"""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dynrcnn_ray.config import TestConfig
from dynrcnn_ray.config_yaml import ConfigError, validate
from dynrcnn_ray.results.files import StoreError
from dynrcnn_ray.results.store import ResultStore
from dynrcnn_ray.scales import Scale
from experiments.options import StoreOptions, parse, storage_location


@dataclass(frozen=True)
class EvaluateOptions(StoreOptions):
    """Options of the command `evaluate`. The test section starts from the trial's own."""

    scale: Scale = "mini"
    """The scale whose default storage to read."""
    trial: str = ""
    """Id of a trained trial: a row of `trials` in the storage."""
    split: str = ""
    """The split; default: the trial's validation split."""
    data_root: str = ""
    """The data set's folder; default: the trial's."""
    output: Path = Path(".")
    """Folder of the results file."""
    test: TestConfig = field(default_factory=TestConfig)


def evaluate_trial(arguments: Sequence[str]) -> int:
    """Detect on a split with a trial's last checkpoint; print the metrics and where the results file is."""
    options = parse(EvaluateOptions, arguments, command="evaluate")
    if not options.trial:
        raise ConfigError("--trial: '' must be the id of a trained trial, from the column trial_id of `trials`")
    store = ResultStore.open(storage_location(options.storage, options.scale))
    rows = store.trials([options.trial])
    if rows.empty:
        raise StoreError(
            f"{store.files.describe_path('trials')}: holds no trial {options.trial!r}; look at its trial_id column"
        )
    if rows["status"].iloc[0] != "finished":
        raise StoreError(f"trial {options.trial}: has not finished ({rows['error'].iloc[0]}); run its command again")
    config = store.config_of(rows.to_dict("records")[0])
    trained_id = config.training_id
    options = parse(EvaluateOptions, arguments, command="evaluate", default=EvaluateOptions(test=config.test))
    config_root, trained_with = config.data.root, config.test
    data = dataclasses.replace(config.data, root=options.data_root or config.data.root)
    config = validate(dataclasses.replace(config, data=data, test=options.test))

    import torch

    from dynrcnn_ray.data.coco import CocoDataset, DataError
    from dynrcnn_ray.data.prepare import prepare_data, require_split
    from dynrcnn_ray.engine.collectives import Worker
    from dynrcnn_ray.engine.inference import detect, metrics_of
    from dynrcnn_ray.engine.training import CheckpointError, build_training_state
    from dynrcnn_ray.evaluation.results_file import check_results, write_results
    from dynrcnn_ray.orchestration.checkpoints import CheckpointFolder

    split = options.split or data.val_split
    if data.root == config_root:
        prepare_data(data, include_masks=config.model.has_masks)
    if data.root != config_root or split != data.val_split:
        require_split(data.root, split, include_masks=config.model.has_masks)
    dataset = CocoDataset(data.root, split)
    trained_on = CocoDataset(config_root, data.val_split)
    if dataset.category_ids != trained_on.category_ids:
        raise DataError(
            f"{dataset.annotation_file}: its categories are not those of {trained_on.annotation_file}, with which the "
            "trial was trained"
        )
    worker = Worker(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    untrained = dataclasses.replace(config, model=dataclasses.replace(config.model, weights="none"))
    folder = CheckpointFolder(store.files, trained_id)
    checkpoint = folder.require_newest(worker.device, on_damaged=lambda note: print(note, file=sys.stderr))
    state = build_training_state(untrained, len(dataset.class_names), worker)
    state.training_id = trained_id
    try:
        state.load_model(checkpoint)
    except CheckpointError as error:
        raise StoreError(f"{folder.described}: {error}") from None
    detections = detect(config, state.model, dataset, worker)

    # Tested in another way it is another trial, with an id and results of its own.
    name = options.trial if options.test == trained_with else config.trial_id
    file = options.output.absolute() / f"detections_{split}_{name}_results.json"
    write_results(file, detections)
    count = check_results(file, image_ids=dataset.image_ids, category_ids=dataset.category_ids)
    if dataset.has_annotations:
        for name, value in metrics_of(config, dataset, detections).items():
            print(f"{name:<10} {'-' if value is None else f'{value:.1f}'}")
    else:
        print(f"{dataset.annotation_file.name} has no annotations: the server tells the average precision.")
    print(f"{count} detections in {len(detections)} images: {file}")
    return 0
