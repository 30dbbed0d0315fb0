"""What data sets in YOLO's and VOC's formats have in common: images, each with a file of labels, in splits.

Every image of the folder belongs to a split, or is counted in a note that says it is left out.
"""

import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path, PurePath
from typing import NamedTuple

from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.check.faults import shown

_OF_IMAGES = (
    ".apng .avif .bmp .dib .dng .gif .j2k .jfif .jp2 .jpe .jpeg .jpg .jpx .mpo .pbm .pcx .pgm .png .pnm .ppm .tga "
    ".tif .tiff .webp"
)
IMAGE_SUFFIXES = frozenset(_OF_IMAGES.split())
"""What Pillow reads; an image under another name is counted as left out."""
_NO_IMAGES = frozenset([".cache", ".csv", ".json", ".md", ".names", ".npy", ".txt", ".xml", ".yaml", ".yml"])
"""Files that lie beside images and are none."""
NAMES_OF_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""What folders, lists and keys of each split are called; in the names of folders, years and the like may follow."""


class Labelled(NamedTuple):
    """An image, and where its labels are if it has any."""

    image: Path
    labels: Path


def note(text: str) -> None:
    """Say what is left out, or taken otherwise than it is written."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def read_text(file: Path) -> str:
    """Read a text file, with or without a byte order mark.

    Raises:
        DataError: it cannot be read, or is not in UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); restore it") from None
    except UnicodeDecodeError:
        raise DataError(f"{file}: is not in UTF-8; save it as UTF-8") from None


def images_below(folder: Path) -> list[Path]:
    """All images of a folder and of those below it, also behind links, sorted; hidden ones are none."""
    return sorted(file for file in _files_below(folder) if file.suffix.lower() in IMAGE_SUFFIXES)


def folders_of_splits(folders: Iterable[Path]) -> dict[str, Path]:
    """Which folder is which split's by its name: `train`, or else one such as `train2017`.

    Raises:
        DataError: several names mean one split.
    """
    found: dict[str, list[Path]] = {}
    for folder in sorted(folders):
        if split := split_named(folder.name):
            found.setdefault(split, []).append(folder)
    return {split: _one_of(split, candidates) for split, candidates in found.items()}


def split_named(name: str) -> str | None:
    """The split that a name means: `valid` and `val2017` are that of validation."""
    match = re.fullmatch(r"([a-z]+)([^a-z].*)?", name.casefold())
    return next((split for split, names in NAMES_OF_SPLITS.items() if match and match[1] in names), None)


def is_plain_name(split: str, name: str) -> bool:
    """Whether a name is one of a split's own, with nothing behind it."""
    return name.casefold() in NAMES_OF_SPLITS[split]


def _one_of(split: str, candidates: Sequence[Path]) -> Path:
    plain = [folder for folder in candidates if is_plain_name(split, folder.name)]
    fitting = sorted(plain, key=lambda folder: NAMES_OF_SPLITS[split].index(folder.name.casefold())) or candidates
    if len(fitting) > 1 and not plain:
        names = ", ".join(str(folder) for folder in fitting)
        raise DataError(f"{names}: each may be the split {split}; rename or remove the others")
    return fitting[0]


def with_labels(split: str, images: Sequence[Labelled]) -> list[Labelled]:
    """A split as it is taken: each image once, in the order of their names; what lacks labels is counted.

    Returns:
        The images; none where a test split has no labels at all.

    Raises:
        DataError: a split to train on or to validate with has no labels at all.
    """
    once = sorted(dict.fromkeys(images))
    without = [each for each in once if not each.labels.is_file()]
    if once and len(without) == len(once):
        told = f"{_common_parent(once)}: none of the {len(once)} images of the split {split} has labels"
        expected = f"such as {without[0].labels}"
        if split != "test":
            raise DataError(f"{told}; add them, {expected}, or take the images away")
        note(f"{told}, {expected}; left out")
        return []
    if without:
        example = shown(without[0].image.name)
        note(
            f"{_common_parent(once)}: {len(without)} of {len(once)} images have no file of labels, such as {example}; "
            "taken as images without objects"
        )
    return once


def names_in_split(images: Sequence[Labelled]) -> list[str]:
    """Each image's path below the folder that they share: folders may hold images of the same name."""
    parent = _common_parent(images)
    return [each.image.relative_to(parent).as_posix() for each in images]


def listed(split: str, file: Path, found: Sequence[tuple[str, Path | None]]) -> list[Path]:
    """The images that a list names and that are there; the others are counted.

    Args:
        split: whose list it is.
        file: the list.
        found: each line, and the image that it names.

    Raises:
        DataError: none is there, and the split is to train on or to validate with.
    """
    images = [image for _, image in found if image is not None]
    if missing := [line for line, image in found if image is None]:
        told = f"{file}: {len(missing)} of {len(found)} images that it lists are not there, such as {shown(missing[0])}"
        if not images and split != "test":
            raise DataError(f"{told}; correct the list, or take it away")
        note(f"{told}; left out")
    return images


def note_what_is_left_out(folder: Path, taken: Set[Path]) -> None:
    """Count the folder's images that are in no split, and the files that are no images by their names."""
    others = [image for image in images_below(folder) if image not in taken]
    if others:
        example = shown(str(others[0].relative_to(folder)))
        note(f"{folder}: {_count(len(others), 'image')} in no split, such as {example}; left out")
    parents = {image.parent for image in taken}
    unread = [
        file.suffix or file.name
        for parent in sorted(parents)
        for file in sorted(parent.iterdir())
        if _is_seen(file) and file.is_file() and file.suffix.lower() not in (IMAGE_SUFFIXES | _NO_IMAGES)
    ]
    if unread:
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(unread).most_common(5))
        note(f"{folder}: {_count(len(unread), 'file')} beside the images that cannot be read as one: {kinds}; left out")


def note_labels_without_images(folder: Path, labels: Iterable[Path]) -> None:
    """Count files of labels whose images are not there."""
    if alone := sorted(labels):
        kind = "file of labels has no image" if len(alone) == 1 else "files of labels have no image"
        note(f"{folder}: {len(alone)} {kind}, such as {shown(str(alone[0].relative_to(folder)))}; left out")


def existing(name: str, *starts: Path) -> Path | None:
    """What a path that somebody has written means here: from each start in turn, then without its first folders.

    `../train/images` and `/content/set/train/images` mean `train/images` where only that is there.
    """
    path = PurePath(name.strip().replace("\\", "/"))
    parts = [part for part in path.parts if part not in (path.anchor, "..", ".")]
    # The last part alone, such as `images`, may be anything.
    shorter = [PurePath(*parts[first:]) for first in range(len(parts)) if first == 0 or len(parts) - first > 1]
    candidates = [start / each for each in (path, *shorter) for start in starts]
    return next((Path(os.path.normpath(file)) for file in candidates if os.path.exists(file)), None)


def _common_parent(images: Sequence[Labelled]) -> Path:
    return Path(os.path.commonpath([each.image.parent for each in images]))


def _files_below(folder: Path) -> Iterator[Path]:
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        # A link may lead back up.
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in files if not name.startswith("."))


def _is_seen(file: Path) -> bool:
    return not file.name.startswith(".")


def _count(number: int, what: str) -> str:
    return f"{number} {what} is" if number == 1 else f"{number} {what}s are"
