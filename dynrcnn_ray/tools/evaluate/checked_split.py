"""The split that a trained trial is evaluated on: checked, with the trial's categories."""

import dataclasses

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.data.fingerprints import own_folder
from dynrcnn_ray.data.layout import annotation_path
from dynrcnn_ray.data.prepare import prepare_data, prepare_split
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.trained import category_names
from dynrcnn_ray.tools.evaluate.command import EvaluateOptions


def checked_split(options: EvaluateOptions, trial: Trial, split: str, store: ResultStore) -> tuple[str, CocoDataset]:
    """The split to detect on, and the folder that it is read from.

    Raises:
        DataError: it cannot be used, or its categories are not those that the trial was trained with.
    """
    config, inputs = trial.config, trial.inputs
    data, masks = config.data, config.model.has_masks
    if not (options.data.root or options.data.drop_invalid or split != data.val_split):
        root = prepare_data(data, include_masks=masks, expected=inputs.data).root
        return root, CocoDataset(root, split)
    is_there = annotation_path(inputs.data_root, data.val_split).is_file()
    stored = {} if is_there or not options.data.root else category_names(store, inputs.data)
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
    root = options.data.root or (trained_root if data.val_fraction else own_folder(data))
    root = str(prepare_split(as_asked, root, split, include_masks=masks, classes=categories))
    dataset = CocoDataset(root, split)
    if dataset.category_names != categories:
        raise DataError(
            f"{dataset.annotation_file}: its categories are not those of {known_from}, with which the trial was trained"
        )
    return root, dataset


def _long_side(config: TrialConfig) -> int:
    """The lowest limit of the long side at which the network sees an image."""
    sides = [config.data.long_side, config.test.multi_scale_long_side]
    return min(sides) if config.test.multi_scale else sides[0]
