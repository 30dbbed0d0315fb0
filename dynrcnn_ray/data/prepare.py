"""Make the data of a run ready: generate it if need be, check it, and name its content by a fingerprint."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from dynrcnn_ray.config import DataConfig, ShapesConfig
from dynrcnn_ray.data.coco import DataError, annotation_path, is_unlabelled, read_annotations
from dynrcnn_ray.data.shapes import GENERATOR_VERSION, generate_shapes, is_generated


def prepare_data(data: DataConfig) -> DataConfig:
    """Generate the shapes data set if it is asked for and missing, then check both splits' annotations.

    Its own output is a valid input: on a node that lacks the generated folder, it is generated there again.

    Args:
        data: The data set, as configured or as an earlier call returned it.

    Returns:
        The same with `root` absolute and `fingerprint` filled in.

    Raises:
        DataError: annotations that cannot be used, splits whose categories differ, or content that is not the one
            that `data.fingerprint` already names.
    """
    root = _root(data)
    if _is_generated_set(data):
        generate_shapes(data.shapes, root)
    prepared = dataclasses.replace(data, root=str(root), fingerprint=fingerprint(data))
    if data.fingerprint not in ("", prepared.fingerprint):
        raise DataError(
            f"{root}: its annotations have the fingerprint {prepared.fingerprint}, but data.fingerprint says "
            f"{data.fingerprint}; bring back the data of that run or leave data.fingerprint empty"
        )
    _check_categories_agree(prepared)
    return prepared


def fingerprint(data: DataConfig) -> str:
    """Identity of the data's content, without generating it.

    Returns:
        `shapes-` and a hash of the recipe for the generated set, else a hash of both splits' annotation files.

    Raises:
        DataError: an annotations file is missing.
    """
    if _is_generated_set(data):
        return _recipe_fingerprint(data.shapes)
    digest = hashlib.sha256()
    for file in _annotation_files(data):
        try:
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
        except OSError as error:
            raise DataError(
                f"{file}: cannot be read ({error.strerror}); check data.root and the name of the split"
            ) from None
    return digest.hexdigest()[:16]


def images_to_generate(data: DataConfig) -> int:
    """How many images `prepare_data` would generate: 0 unless the shapes are asked for and missing."""
    if not _is_generated_set(data) or is_generated(_root(data)):
        return 0
    return data.shapes.train_images + data.shapes.val_images


def _is_generated_set(data: DataConfig) -> bool:
    return not data.root or data.fingerprint == _recipe_fingerprint(data.shapes)


def _recipe_fingerprint(shapes: ShapesConfig) -> str:
    recipe = {"version": GENERATOR_VERSION, **dataclasses.asdict(shapes)}
    return "shapes-" + hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def _root(data: DataConfig) -> Path:
    if data.root:
        return Path(data.root).expanduser().absolute()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache.absolute() / "dynrcnn_ray" / _recipe_fingerprint(data.shapes)


def _annotation_files(data: DataConfig) -> tuple[Path, Path]:
    root = _root(data)
    return annotation_path(root, data.train_split), annotation_path(root, data.val_split)


def _check_categories_agree(data: DataConfig) -> None:
    train_file, val_file = _annotation_files(data)
    for file in (train_file, val_file):
        if is_unlabelled(file):
            raise DataError(f"{file}: has no annotations to train on or to measure with; name a split that has them")
    train, val = _category_names(read_annotations(train_file)), _category_names(read_annotations(val_file))
    for category_id in sorted(train.keys() | val.keys()):
        if train.get(category_id) != val.get(category_id):
            raise DataError(
                f"{val_file}: category {category_id} is {val.get(category_id)!r}, but {train_file.name} says "
                f"{train.get(category_id)!r}; both splits need the same categories"
            )


def _category_names(annotations: dict[str, Any]) -> dict[int, str]:
    return {category["id"]: category["name"] for category in annotations["categories"]}
