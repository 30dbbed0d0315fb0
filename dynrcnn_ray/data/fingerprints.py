"""What a data set is known by: where it lies, and a hash of its recipe or of its files and what is used of them."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from dynrcnn_ray.config.sections import DataConfig, ShapesConfig
from dynrcnn_ray.data.annotations import cache_folder, unreadable
from dynrcnn_ray.data.check.check_split import CheckedSplit
from dynrcnn_ray.data.image_identity import content_of_images, digests_of_images
from dynrcnn_ray.data.layout import SplitFiles, canonical_files, own_files
from dynrcnn_ray.data.shapes import GENERATOR_VERSION, NAME_BEGINS


def own_folder(data: DataConfig) -> Path:
    """The folder of the whole data set, invalid parts included."""
    if data.root:
        return Path(data.root).expanduser().absolute()
    if data.is_given:
        return Path(data.train_annotations).expanduser().absolute().parent
    return cache_folder() / recipe_fingerprint(data.shapes)


def files_of_splits(data: DataConfig) -> dict[str, SplitFiles]:
    """The files of both splits, training first, wherever the data set has them."""
    if not data.is_given:
        return {split: canonical_files(own_folder(data), split) for split in (data.train_split, data.val_split)}
    return own_files(data)


def recipe_fingerprint(shapes: ShapesConfig) -> str:
    """Identity of a generated data set: `shapes-` and a hash of its recipe. Its folder in the cache is named so."""
    recipe = {"version": GENERATOR_VERSION, **dataclasses.asdict(shapes)}
    return NAME_BEGINS + hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def content_fingerprint(splits: Iterable[CheckedSplit], files: Iterable[SplitFiles], *, in_part: bool) -> str:
    """Identity of splits: a hash of their annotation files and images, byte for byte.

    Args:
        splits: each as it was checked.
        files: of each split.
        in_part: whether records are left out: then also of which are used, as images may be missing on one machine
            alone.

    Raises:
        DataError: a file cannot be read.
    """
    splits = list(splits)
    content = _hash_of_files(splits, files)
    return _with_rows(content, splits) if in_part else content


def _hash_of_files(splits: Iterable[CheckedSplit], files: Iterable[SplitFiles]) -> str:
    digest = hashlib.sha256()
    for checked, (_, folder) in zip(splits, files, strict=True):
        try:
            with checked.file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
            images = content_of_images(image_digests(folder, checked))
        except OSError as error:
            raise unreadable(Path(error.filename or checked.file), error) from None
        digest.update(images.encode())
    return digest.hexdigest()[:16]


def image_digests(folder: Path, checked: CheckedSplit) -> list[str]:
    """A hash of each image of a split that can be used.

    Raises:
        OSError: an image cannot be read.
    """
    return digests_of_images(folder, checked.files, cache=cache_folder() / "image_hashes")


def _with_rows(content: str, splits: Iterable[CheckedSplit]) -> str:
    digest = hashlib.sha256(content.encode())
    for checked in splits:
        digest.update(json.dumps([checked.image_rows.tolist(), checked.annotation_rows.tolist()]).encode())
    return digest.hexdigest()[:16]
