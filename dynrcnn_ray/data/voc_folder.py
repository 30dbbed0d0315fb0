"""A data set in Pascal VOC's format: where its images and labels are.

| images | labels |
|---|---|
| JPEGImages/ | Annotations/, splits in ImageSets/Main/{split}.txt; `trainval` where there is no `train` |
| {split}/ | {split}/ |

A folder of one split has the same without the level of the split; it becomes `train`.
"""

from collections import defaultdict
from pathlib import Path

from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.foreign_folder import (
    NAMES_OF_SPLITS,
    Labelled,
    folders_of_splits,
    images_below,
    listed,
    note_labels_without_images,
    note_what_is_left_out,
    read_text,
    with_labels,
)


def is_voc(folder: Path) -> bool:
    """Whether a folder looks like VOC's format."""
    if (folder / "Annotations").is_dir() and (folder / "JPEGImages").is_dir():
        return True
    return folder.is_dir() and (bool(_folders_with_labels(folder)) or next(folder.glob("*.xml"), None) is not None)


def read_voc(folder: Path) -> dict[str, list[Labelled]]:
    """Find the images of each split, with their labels. What is left out is told in notes.

    Raises:
        DataError: a split has no labels, or no image is there.
    """
    pairs = _in_lists(folder) if (folder / "JPEGImages").is_dir() else _in_folders(folder)
    everything = {each for images in pairs.values() for each in images}
    if not everything:
        raise DataError(f"{folder}: holds no images; give the folder of a VOC data set")
    splits = {split: with_labels(split, images) for split, images in pairs.items() if images}
    note_what_is_left_out(folder, {each.image for each in everything})
    parents = {each.labels.parent for each in everything}
    labels = {file for parent in parents for file in parent.glob("*.xml")}
    stems = {image.stem for image in images_below(folder)}
    note_labels_without_images(folder, (file for file in labels if file.stem not in stems))
    return {split: images for split, images in splits.items() if images}


def _in_lists(folder: Path) -> dict[str, list[Labelled]]:
    images, labels, sets = folder / "JPEGImages", folder / "Annotations", folder / "ImageSets" / "Main"
    by_name: dict[str, list[Path]] = defaultdict(list)
    there = images_below(images)
    for image in there:
        inside = image.relative_to(images)
        for name in {inside.with_suffix("").as_posix(), image.stem}:
            by_name[name].append(image)
    found = {}
    for split, names in NAMES_OF_SPLITS.items():
        file = next((sets / f"{name}.txt" for name in names if (sets / f"{name}.txt").is_file()), None)
        if file is not None:
            found[split] = _listed(split, file, by_name)
    both = sets / "trainval.txt"
    if "train" not in found and both.is_file():
        for_validation = set(found.get("val", []))
        found = {"train": [image for image in _listed("train", both, by_name) if image not in for_validation]} | found
    found = found or {"train": there}
    return {
        split: [Labelled(image, _labels_of(image, images, labels)) for image in taken] for split, taken in found.items()
    }


def _labels_of(image: Path, images: Path, labels: Path) -> Path:
    nested = labels / image.relative_to(images).with_suffix(".xml")
    flat = labels / f"{image.stem}.xml"
    return flat if flat.is_file() and not nested.is_file() else nested


def _listed(split: str, file: Path, by_name: dict[str, list[Path]]) -> list[Path]:
    """The images that a list names: each line one, with or without its suffix or a flag after it."""
    found: list[tuple[str, Path | None]] = []
    for line in filter(None, map(str.strip, read_text(file).splitlines())):
        path = Path(line)
        readings = (line, (path.parent / path.stem).as_posix(), line.rsplit(maxsplit=1)[0], path.stem)
        images = next((by_name[name] for name in readings if name in by_name), [None])
        found += [(line, image) for image in images]
    return listed(split, file, found)


def _in_folders(folder: Path) -> dict[str, list[Labelled]]:
    folders = _folders_with_labels(folder) or {"train": folder}
    return {
        split: [Labelled(image, image.with_suffix(".xml")) for image in images_below(place)]
        for split, place in folders.items()
    }


def _folders_with_labels(folder: Path) -> dict[str, Path]:
    """The splits' folders; one without labels is among them if another has some."""
    folders = folders_of_splits(file for file in folder.iterdir() if file.is_dir())
    some = any(next(place.rglob("*.xml"), None) for place in folders.values())
    return {split: folders[split] for split in NAMES_OF_SPLITS if split in folders} if some else {}
