"""The split that a trained trial is evaluated on: checked, with the trial's categories."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.data.fingerprints import own_folder
from dynrcnn_ray.data.layout import find_named_split
from dynrcnn_ray.data.prepare import data_here, fingerprint, generate_if_asked, prepare_data, prepare_split
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.trained import category_names
from dynrcnn_ray.tools.evaluate.command import EvaluateOptions


class EvaluatedSplit(NamedTuple):
    """What is evaluated.

    Attributes:
        root: The folder that it is read from.
        dataset: The split.
        is_own: Whether it is the trial's own, all of it.
    """

    root: str
    dataset: CocoDataset
    is_own: bool


def checked_split(options: EvaluateOptions, trial: Trial, split: str, store: ResultStore) -> EvaluatedSplit:
    """The split to detect on.

    Raises:
        DataError: it cannot be used, or its categories are not those that the trial was trained with.
    """
    config, inputs = trial.config, trial.inputs
    data, masks = config.data, config.model.has_masks
    here = data_here(data, options.data.root)
    if own_folder(here) == own_folder(data):
        here = data
    is_own = here == data or _is_divided_alike(here, split, trial)
    is_of_training = split in (data.train_split, data.val_split)
    names_files = bool(data.train_annotations or data.val_annotations)
    folder = own_folder(here)
    has_name = find_named_split(folder, split) is not None
    # What a run reads is a copy where one split is divided, or where files are named.
    is_copied = is_own and bool(data.val_fraction or names_files)
    if is_copied or (split == data.val_split and not (options.data.root or options.data.drop_invalid)):
        root = prepare_data(here, include_masks=masks, expected=inputs.data).root
        if split == data.val_split or (data.val_fraction and split == data.train_split):
            return EvaluatedSplit(root, CocoDataset(root, split), is_own)
        folder = folder if has_name and not is_of_training else Path(root)
    elif is_of_training and names_files and not has_name:
        raise DataError(
            f"{folder}: has no split {split!r} by its name, and the trial's files were named one by one; give the "
            "folder that they were in, or one whose splits have names"
        )
    generate_if_asked(here)
    categories, known_from = _trained_categories(trial, store)
    as_asked = dataclasses.replace(data, drop_invalid=options.data.drop_invalid, long_side=_long_side(config))
    root = str(prepare_split(as_asked, folder, split, include_masks=masks, classes=categories))
    dataset = CocoDataset(root, split)
    if dataset.category_names != categories:
        raise DataError(
            f"{dataset.annotation_file}: its categories are not those of {known_from}, with which the trial was trained"
        )
    return EvaluatedSplit(root, dataset, is_own and not options.data.drop_invalid)


def _is_divided_alike(here: DataConfig, split: str, trial: Trial) -> bool:
    """Whether a folder has a trial's one split, of which a part was held out for validation.

    All its images are read for that, so only where the split may be that one.
    """
    is_of_training = split in (here.train_split, here.val_split)
    if not here.val_fraction or (find_named_split(own_folder(here), split) and not is_of_training):
        return False
    try:
        return fingerprint(here, include_masks=trial.config.model.has_masks) == trial.inputs.data
    except DataError:
        return False


def _trained_categories(trial: Trial, store: ResultStore) -> tuple[dict[int, str], str]:
    """The names of the categories that a trial was trained with, by their ids, and where they are known from.

    The store of an earlier release does not tell; then the data must be there as they were.
    """
    if stored := category_names(store, trial.inputs.data):
        return stored, store.files.describe_path(f"images/{trial.inputs.data}.parquet")
    data = trial.config.data
    root = prepare_data(data, include_masks=trial.config.model.has_masks, expected=trial.inputs.data).root
    trained_on = CocoDataset(root, data.val_split)
    return trained_on.category_names, str(trained_on.annotation_file)


def _long_side(config: TrialConfig) -> int:
    """The lowest limit of the long side at which the network sees an image."""
    sides = [config.data.long_side, config.test.multi_scale_long_side]
    return min(sides) if config.test.multi_scale else sides[0]
