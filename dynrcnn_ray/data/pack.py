"""What a training needs of a large annotations file, written once a node and mapped into the memory of all its workers.

Parsing and checking a file like train2017's takes a worker most of a minute and gigabytes. The arrays that remain are
written to the cache, one file each; the system then keeps a single copy of them, whoever maps it.

```
<cache>/dynrcnn_ray/packs/<fingerprint of the file>-<boxes or masks>-<version>/sizes.npy, boxes.npy, ..., lists.json
```
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dynrcnn_ray.data.sealed_folder import make_sure_of, why_not_trusted

VERSION = 3
"""Goes up whenever `SplitContent` changes, or what is read from a file."""
_WORTH_IT = 2**24
"""Bytes of an annotations file; a smaller one is parsed within a second."""
_LISTS = ("class_names", "category_ids", "image_ids", "file_names")


@dataclass(frozen=True)
class SplitContent:
    """A split's annotations as flat arrays. Crowds and boxes without extent are not among them.

    Attributes:
        class_names: name of each class.
        category_ids: COCO category id of each class, ascending.
        image_ids: COCO image id of each image.
        file_names: file name of each image.
        sizes: width and height of each image in pixels, int64 `[num_images, 2]`.
        boxes: float32 `[num_objects, 4]`, xyxy pixels, image by image.
        labels: int64 `[num_objects]`, from 1.
        first: objects of image i are rows `first[i]` to `first[i + 1]`, int64 `[num_images + 1]`.
        mask_bytes: compressed run lengths of all objects, uint8; empty where no masks are asked for.
        mask_first: run lengths of object i are bytes `mask_first[i]` to `mask_first[i + 1]`.
    """

    class_names: list[str]
    category_ids: list[int]
    image_ids: list[int]
    file_names: list[str]
    sizes: NDArray[np.int64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    first: NDArray[np.int64]
    mask_bytes: NDArray[np.uint8]
    mask_first: NDArray[np.int64]


def shared_content(file: Path, cache: Path, *, include_masks: bool, read: Callable[[], SplitContent]) -> SplitContent:
    """The content of an annotations file: from its pack, which the first of several processes writes.

    Args:
        file: the annotations; a small file is simply read.
        cache: folder of what is made once a machine. Where it cannot be written to, the file is read.
        include_masks: whether the content has masks.
        read: parses the file and checks it. What it raises leaves no pack.
    """
    if file.stat().st_size < _WORTH_IT:
        return read()
    with file.open("rb") as opened:
        fingerprint = hashlib.file_digest(opened, "sha256").hexdigest()[:16]
    folder = cache / "packs" / f"{fingerprint}-{'masks' if include_masks else 'boxes'}-{VERSION}"
    with contextlib.suppress(OSError):
        if folder.is_dir() and not why_not_trusted(folder):
            return _open(folder)
    try:
        with _alone(folder):
            make_sure_of(folder, lambda building: _write(read(), building))
            return _open(folder)
    except OSError:  # A full disk or a read-only home; reading once more is slow, but right.
        return read()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process of this machine write the pack while the others wait for it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(content: SplitContent, folder: Path) -> None:
    folder.mkdir()
    values = {item.name: getattr(content, item.name) for item in dataclasses.fields(content)}
    (folder / "lists.json").write_text(json.dumps({name: values.pop(name) for name in _LISTS}))
    for name, array in values.items():
        np.save(folder / f"{name}.npy", array)


def _open(folder: Path) -> SplitContent:
    lists = json.loads((folder / "lists.json").read_text())
    arrays = {
        item.name: np.load(folder / f"{item.name}.npy", mmap_mode="r")
        for item in dataclasses.fields(SplitContent)
        if item.name not in _LISTS
    }
    return SplitContent(**lists, **arrays)
