"""A data set in YOLO's format: where its images and labels are, and what its classes are called.

| images | labels |
|---|---|
| what `train`, `val` and `test` of data.yaml name: folders, lists of images, or several of them | see below |
| images/{split}/ or {split}/images/, with folders below | see below |
| images/ | see below |

An image's labels lie where its path has `labels` in place of the last `images`, or beside it. Class names are text,
whatever YAML would make of them, and the keys of a mapping are the numbers in the labels.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from dynrcnn_ray.config.errors import one_line
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.check.faults import shown
from dynrcnn_ray.data.foreign_folder import (
    NAMES_OF_SPLITS,
    Labelled,
    existing,
    folders_of_splits,
    images_below,
    listed,
    note,
    note_labels_without_images,
    note_what_is_left_out,
    read_text,
    with_labels,
)

_NOTHING = ("", "null", "~")
_USUAL = ("data", "dataset")
"""What the file that names the classes is called where several do."""


class YoloFolder(NamedTuple):
    """A data set in YOLO's format.

    Attributes:
        splits: the images of each split.
        description: the .yaml file.
        classes: name of each class by its number in the labels, ascending.
        keypoints: values of an object's keypoints that follow its box; 0 where it has none.
    """

    splits: dict[str, list[Labelled]]
    description: Path
    classes: dict[int, str]
    keypoints: int


class _Description(NamedTuple):
    file: Path
    content: dict[str, Any]
    names: yaml.Node
    keys: list[str]
    """As they stand in the file: of two equal ones the content has the last."""


def is_yolo(folder: Path) -> bool:
    """Whether a folder looks like YOLO's format: it has labels in their place, or a description of classes."""
    return any(_label_folders(folder)) or bool(_descriptions(folder))


def read_yolo(folder: Path) -> YoloFolder:
    """Find a data set's images, labels and classes. What is left out is told in notes.

    Raises:
        DataError: what is named is not there, a split has no labels, or the classes cannot be read.
    """
    description = _description(folder)
    sources = {split: _named(folder, description, split) for split in NAMES_OF_SPLITS}
    found = {split: images for split, images in sources.items() if images is not None}
    taken = {image for images in found.values() for image in images}
    for split, images in _by_layout(folder).items():
        # What data.yaml has given to another split is not given twice.
        left = [image for image in images if image not in taken]
        if split not in found and left:
            found[split] = left
    if not found:
        raise DataError(f"{folder}: holds no images in images/, in a split's images/ or where {description.file} says")
    pairs = {split: [Labelled(image, _labels_of(image, folder)) for image in images] for split, images in found.items()}
    splits = {split: with_labels(split, pairs[split]) for split in NAMES_OF_SPLITS if split in pairs}
    everything = {each for split in pairs.values() for each in split}
    _note_the_rest(folder, everything)
    return YoloFolder(
        {split: images for split, images in splits.items() if images},
        description.file,
        _classes(description),
        _keypoints(description),
    )


def _note_the_rest(folder: Path, everything: set[Labelled]) -> None:
    images = {each.image for each in everything}
    note_what_is_left_out(folder, images)
    with_an_image = {_labels_of(image, folder) for image in images_below(folder)} | {each.labels for each in everything}
    parents = {each.labels.parent for each in everything if each.labels.parent != each.image.parent}
    labels = {file for parent in parents if parent.is_relative_to(folder) for file in parent.glob("*.txt")}
    alone = {file for file in labels - with_an_image if file.name != "classes.txt"}
    note_labels_without_images(folder, alone)


def _named(folder: Path, description: _Description, split: str) -> list[Path] | None:
    """The images that the description names for a split; None where it says nothing of it."""
    keys = [key for key in NAMES_OF_SPLITS[split] if description.content.get(key, "") not in _NOTHING]
    if not keys:
        return None
    key, *others = keys
    value = description.content[key]
    for other in others:
        if description.content[other] != value:
            both = f"{key} names {shown(value)} and {other} names {shown(description.content[other])}"
            raise DataError(f"{description.file}: {both}, which are one split; take one line out")
    images: list[Path] = []
    for entry in value if isinstance(value, list) else [value]:
        if not isinstance(entry, str):
            raise DataError(f"{description.file}: {key} holds {shown(entry)}; give a folder, a list or several of them")
        source = existing(entry, *_starts(folder, description))
        there = _images_of(split, source, folder, description) if source else []
        if not there:
            why = "which holds no images" if source else "which is not there"
            told = f"{description.file}: {key} names {shown(entry)}, {why}"
            if split != "test":
                raise DataError(f"{told}; correct the line or take it out")
            note(f"{told}; left out")
        elif Path(entry).is_absolute() and source != Path(entry):
            note(f"{description.file}: {key} names {shown(entry)}, which is not there; {source} is taken")
        elif source and not source.is_relative_to(folder):
            note(f"{description.file}: {key} names {source}, outside of {folder}")
        images += there
    return images or None


def _starts(folder: Path, description: _Description) -> tuple[Path, ...]:
    """Where paths of the description begin: at its `path`, else at the folder."""
    path = description.content.get("path", "")
    named = existing(path, folder) if isinstance(path, str) and path not in _NOTHING else None
    return (named, folder) if named is not None and named != folder else (folder,)


def _images_of(split: str, source: Path, folder: Path, description: _Description) -> list[Path]:
    if source.is_dir():
        return images_below(source)
    if source.suffix.lower() != ".txt":
        return [source]
    lines = [line.strip() for line in read_text(source).splitlines() if line.strip()]
    starts = (source.parent, *_starts(folder, description))
    return listed(split, source, [(line, existing(line, *starts)) for line in lines])


def _by_layout(folder: Path) -> dict[str, list[Path]]:
    images = folder / "images"
    below = folders_of_splits(file for file in images.iterdir() if file.is_dir()) if images.is_dir() else {}
    beside = folders_of_splits(file for file in folder.iterdir() if (file / "images").is_dir())
    folders = {split: parent / "images" for split, parent in beside.items()} | below
    found = {split: images_below(place) for split, place in folders.items()}
    if not folders and images.is_dir():
        found = {"train": images_below(images)}
    return {split: images for split, images in found.items() if images}


def _labels_of(image: Path, folder: Path) -> Path:
    """Where an image's labels are, as Ultralytics has it."""
    base = folder if image.is_relative_to(folder) else Path(image.anchor)
    parts = list(image.relative_to(base).with_suffix(".txt").parts)
    for at in reversed(range(len(parts) - 1)):
        if parts[at] == "images":
            parts[at] = "labels"
            break
    return base.joinpath(*parts)


def _label_folders(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        return
    pairs = [(folder / "images", folder / "labels")]
    pairs += [(split / "images", split / "labels") for split in sorted(folder.iterdir())]
    yield from (labels for images, labels in pairs if images.is_dir() and labels.is_dir())


def _descriptions(folder: Path) -> list[_Description]:
    """The .yaml files that name classes: settings of a training may lie beside them."""
    found = []
    for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        is_meant = file.stem in _USUAL
        try:
            text = read_text(file)
            # Every scalar is text here: `no` is a name, not a truth value.
            node = yaml.compose(text, Loader=yaml.BaseLoader)
            content = yaml.load(text, Loader=yaml.BaseLoader)
        except (yaml.YAMLError, DataError) as error:
            reason = one_line(error, 200)
            if is_meant:
                raise DataError(f"{file}: is not YAML that can be read ({reason}); correct it") from None
            continue
        if isinstance(node, yaml.MappingNode):
            names = [value for key, value in node.value if key.value == "names"]
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            found += [_Description(file, content, value, keys) for value in names[-1:]]
    return found


def _description(folder: Path) -> _Description:
    found = _descriptions(folder)
    if not found:
        raise DataError(f"{folder}: has no .yaml file with the names of the classes; add data.yaml with a list `names`")
    chosen = [each for each in found if each.file.stem in _USUAL] or found
    if any(each.content != chosen[0].content for each in chosen):
        files = ", ".join(each.file.name for each in chosen)
        raise DataError(f"{folder}: several files name classes: {files}; keep one, or call it data.yaml")
    if twice := [key for at, key in enumerate(chosen[0].keys) if key in chosen[0].keys[:at]]:
        raise DataError(f"{chosen[0].file}: {twice[0]!r} stands twice; keep one of the two")
    return chosen[0]


def _classes(description: _Description) -> dict[int, str]:
    """Name of each class by its number, from a list or a mapping.

    Raises:
        DataError: the numbers or names are none, or one is given twice.
    """
    file, node = description.file, description.names
    remedy = "give a list of names, or a mapping from each class's number to its name"
    if isinstance(node, yaml.SequenceNode):
        pairs = [(str(number), value) for number, value in enumerate(node.value)]
    elif isinstance(node, yaml.MappingNode):
        pairs = [(key.value, value) for key, value in node.value]
    else:
        raise DataError(f"{file}: names is neither a list nor a mapping; {remedy}")
    if not pairs:
        raise DataError(f"{file}: names is empty; {remedy}")
    for key, value in pairs:
        if not (isinstance(key, str) and isinstance(value, yaml.ScalarNode) and value.value.strip()):
            raise DataError(f"{file}: names: class {shown(key)} has no text for a name; {remedy}")
    texts = [(key, value.value) for key, value in pairs]
    if not any(key.isdecimal() for key, _ in texts) and all(value.isdecimal() for _, value in texts):
        note(f"{file}: names gives each name its number; read that way round")
        texts = [(value, key) for key, value in texts]
    if odd := [key for key, _ in texts if not key.isdecimal()]:
        raise DataError(f"{file}: names: {shown(odd[0])} is no class number; {remedy}")
    numbered = [(int(key), name) for key, name in texts]
    for what, values in (("number", [number for number, _ in numbered]), ("name", [name for _, name in numbered])):
        if again := [value for at, value in enumerate(values) if value in values[:at]]:
            raise DataError(f"{file}: names: the {what} {shown(again[0])} is given twice; give each class its own")
    return dict(sorted(numbered))


def _keypoints(description: _Description) -> int:
    shape = description.content.get("kpt_shape", [])
    if not shape:
        return 0
    if not (isinstance(shape, list) and len(shape) == 2 and all(isinstance(n, str) and n.isdecimal() for n in shape)):
        raise DataError(f"{description.file}: kpt_shape is {shown(shape)}; give [number of keypoints, 2 or 3]")
    return int(shape[0]) * int(shape[1])
