"""A corrected copy of annotations in the cache, beside links to the images."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dynrcnn_ray.data.annotations import cache_folder
from dynrcnn_ray.data.check.check_split import CheckedSplit
from dynrcnn_ray.data.layout import SplitFiles, canonical_files
from dynrcnn_ray.data.sealed_folder import cannot_be_written, make_sure_of

_COPY_VERSION = 2
"""Part of the name of copied annotations: raise it with every change of what is corrected."""


def must_be_copied(checked: CheckedSplit) -> bool:
    """Whether a split's own files do not hold what a run uses of it."""
    return checked.is_changed or bool(checked.errors)


def write_copy(
    own_root: Path | None,
    files: Mapping[str, SplitFiles],
    content: str,
    splits: Mapping[str, CheckedSplit],
    *,
    include_masks: bool,
) -> Path:
    """Write a folder like the data set's own in COCO's layout: links to all it holds, annotations as they must be.

    Args:
        own_root: the data set's own folder, if it has one.
        files: where each split's annotations and images are.
        content: the fingerprint.
        splits: what was checked.
        include_masks: whether masks were checked too.

    Returns:
        The folder, in the cache; one that is there is taken if it holds what was written to it.

    Raises:
        DataError: the cache cannot be written.
    """
    # The same data set in another place, or under other names, needs other links; a model with masks other polygons.
    folders = {split: str(files[split].images) for split in sorted(splits)}
    names = {split: [image["file_name"] for image in splits[split].images] for split in sorted(splits)}
    place = json.dumps([_COPY_VERSION, str(own_root), folders, names, include_masks])
    folder = cache_folder() / f"prepared-{content}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"

    def build(building: Path) -> None:
        (building / "annotations").mkdir(parents=True)
        for split, checked in splits.items():
            written = canonical_files(building, split)
            written.annotations.write_text(json.dumps(_as_used(checked)))
            written.images.symlink_to(files[split].images)
        if own_root is not None:
            _link_missing(own_root / "annotations", building / "annotations")
            _link_missing(own_root, building)

    try:
        make_sure_of(folder, build)
    except OSError as error:
        raise cannot_be_written(folder, error) from None
    return folder


def _link_missing(folder: Path, copy: Path) -> None:
    """Link what a folder holds and its copy does not; images that lie in it directly have a link as a folder."""
    for entry in folder.iterdir() if folder.is_dir() else ():
        is_of_use = entry.is_dir() or entry.suffix == ".json"
        if is_of_use and not (copy / entry.name).exists():
            (copy / entry.name).symlink_to(entry)


def _as_used(checked: CheckedSplit) -> dict[str, Any]:
    assert checked.content is not None
    lists = {"images": checked.images, "annotations": checked.annotations, "categories": checked.categories}
    return checked.content | lists
