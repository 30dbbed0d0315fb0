"""Where a split's annotations and images are: the layouts in which labelling tools export COCO annotations.

A folder is only looked at, never written to. `{split}` stands for the split's name; a validation split may also be
called `valid` or `validation`, and every name may begin with a capital letter.

| tool | annotations | images |
|---|---|---|
| COCO itself | annotations/instances_{split}.json | {split}/ |
| CVAT | annotations/instances_{split}.json | images/{split}/ |
| one folder for all splits | annotations/instances_{split}.json or {split}.json | images/ |
| Roboflow | {split}/_annotations.coco.json | {split}/ |
| FiftyOne | {split}/labels.json | {split}/data/ |
| Label Studio | {split}/result.json | {split}/images/ |

A folder of one split has the same files without the level `{split}`; CVAT calls it `default`. Beside a split for
training or validation that has a name such a file may hold all images together, so it is neither.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from dynrcnn_ray.config.sections import DataConfig

_IMAGE_FOLDERS = ("{split}", "images/{split}", "images", "data")
_LAYOUTS = (
    ("annotations/instances_{split}.json", _IMAGE_FOLDERS),
    ("annotations/image_info_{split}.json", _IMAGE_FOLDERS),
    ("{split}/_annotations.coco.json", ("{split}",)),
    ("{split}/labels.json", ("{split}/data", "{split}")),
    ("{split}/result.json", ("{split}/images", "{split}")),
    ("annotations/{split}.json", _IMAGE_FOLDERS),
    ("{split}.json", (*_IMAGE_FOLDERS, ".")),
)
"""Annotations, and the folders of which the first that exists has the images. The first layout that fits is taken."""
_LAYOUTS_OF_ONE_SPLIT = (
    ("_annotations.coco.json", (".",)),
    ("labels.json", ("data", ".")),
    ("result.json", ("images", ".")),
    ("annotations/instances_default.json", ("images/default", "default", "images")),
)
_VALIDATION = ("val", "valid", "validation")
_USUAL = ("train", *_VALIDATION, "test")
_OF_A_TRAINING = ("train", "val")
"""How the names of its splits begin, such as val2017."""


class SplitFiles(NamedTuple):
    """Where a split is.

    Attributes:
        annotations: The annotations file.
        images: The folder of its images.
    """

    annotations: Path
    images: Path


def find_split(root: str | Path, split: str) -> SplitFiles:
    """Find a split below a folder by the known layouts.

    Returns:
        Its files; where COCO would have them if no layout fits.
    """
    if files := find_named_split(root, split):
        return files
    is_whole = not any(name.casefold().startswith(_OF_A_TRAINING) for name in splits_in(Path(root)))
    of_one_split = ((layout, "") for layout in _LAYOUTS_OF_ONE_SPLIT)
    files = _first_that_is_there(Path(root), of_one_split) if is_whole else None
    return files or canonical_files(root, split)


def find_named_split(root: str | Path, split: str) -> SplitFiles | None:
    """Find a split below a folder by its name; None if no layout has it."""
    return _first_that_is_there(Path(root), ((layout, name) for name in _names_of(split) for layout in _LAYOUTS))


def _first_that_is_there(root: Path, layouts: Iterable[tuple[tuple[str, tuple[str, ...]], str]]) -> SplitFiles | None:
    for (annotations, folders), name in layouts:
        file = root / annotations.format(split=name)
        if file.is_file():
            return SplitFiles(file, _first_folder(root, folders, name))
    return None


def splits_in(root: Path) -> list[str]:
    """The splits that lie below a folder in a known layout, by their names."""
    found = set()
    without_name = {root / annotations for annotations, _ in _LAYOUTS_OF_ONE_SPLIT}
    for annotations, folders in _LAYOUTS:
        before, after = annotations.split("{split}", maxsplit=1)
        for file in set(root.glob(annotations.format(split="*"))) - without_name:
            name = file.relative_to(root).as_posix().removeprefix(before).split("/")[0]
            name = name.removesuffix(after) if "/" not in after else name
            # Not every .json file is a split: its images lie under its name, or its name is that of one.
            under = [root / folder.format(split=name) for folder in folders if "{split}" in folder]
            if any(place.is_dir() for place in under) or name in _USUAL:
                found.add(name)
    return sorted(found)


def canonical_files(root: str | Path, split: str) -> SplitFiles:
    """Where COCO has a split: what this project itself writes is laid out so."""
    return SplitFiles(Path(root) / "annotations" / f"instances_{split}.json", Path(root) / split)


def annotation_path(root: str | Path, split: str) -> Path:
    """Where the annotations of a split are. A split without labels, such as test-dev2017, has an `image_info_` file."""
    return find_split(root, split).annotations


def own_files(data: DataConfig) -> dict[str, SplitFiles]:
    """The files of both splits as they were given, not those of a copy: by the split's name, training first.

    Both are the same where one split is divided, or where the training split is also that of validation.
    """
    root = data.root
    train = _given(data.train_annotations, data.train_images) or find_split(_absolute(root), data.train_split)
    if data.val_fraction:
        return {data.train_split: train, data.val_split: train}
    val = _given(data.val_annotations, data.val_images)
    # A set of one split has no other for validation.
    return {data.train_split: train, data.val_split: val or find_split(_absolute(root), data.val_split)}


def with_absolute_paths(data: DataConfig) -> DataConfig:
    """The same wherever it is read: workers have another current folder than the command."""
    names = ("root", "train_annotations", "train_images", "val_annotations", "val_images")
    given = {name: getattr(data, name) for name in names}
    return dataclasses.replace(data, **{name: str(_absolute(path)) for name, path in given.items() if path})


def needs_root(data: DataConfig) -> bool:
    """Whether a split is looked for below `data.root`; not if the files of both are named."""
    return not (data.train_annotations and (data.val_annotations or data.val_fraction))


def _given(annotations: str, images: str) -> SplitFiles | None:
    return SplitFiles(_absolute(annotations), _absolute(images)) if annotations else None


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()


def _names_of(split: str) -> Iterator[str]:
    """The name itself first, then what else tools call the same split."""
    others = _VALIDATION if split in _VALIDATION else ()
    names = [split, *others]
    yield from dict.fromkeys([*names, *(name.capitalize() for name in names)])


def _first_folder(root: Path, folders: tuple[str, ...], name: str) -> Path:
    found = [root / folder.format(split=name) for folder in folders]
    return next((folder for folder in found if folder.is_dir()), found[0])
