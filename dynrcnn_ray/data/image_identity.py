"""What the images of a split hold, as a hash: the same bytes have the same, wherever they are.

Every image is read once. After that its name, size and time of change tell whether it must be read again.
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dynrcnn_ray.data.image_files import ImageFile
from dynrcnn_ray.data.remembered import recall, remember

_VERSION = 2
"""Goes up with the form in which hashes are remembered."""
_THREADS = 8
_MANY_BYTES = 2**30


def content_of_images(digests: Sequence[str]) -> str:
    """A hash of images in their order, in hexadecimal digits, from the hash of each."""
    return hashlib.sha256(json.dumps(list(digests)).encode()).hexdigest()


def digests_of_images(folder: Path, images: Sequence[ImageFile], *, cache: Path) -> list[str]:
    """Hash the content of each image.

    Args:
        folder: The split's folder.
        images: Its images.
        cache: Where hashes are remembered, a file for each folder of images.

    Returns:
        Hexadecimal digits, in the images' order.
    """
    place = hashlib.sha256(f"{_VERSION} {folder.absolute()}".encode(errors="surrogateescape")).hexdigest()[:24]
    file = cache / f"{place}.json"
    remembered = _read(file)
    known: dict[str, tuple[int, int, str]] = {}
    for image in images:
        num_bytes, changed_at, digest = remembered.get(image.name, (-1, -1, ""))
        if (num_bytes, changed_at) == (image.num_bytes, image.changed_at):
            known[image.name] = (num_bytes, changed_at, digest)
    unknown = [image for image in images if image.name not in known]
    if unknown:
        num_bytes = sum(image.num_bytes for image in unknown)
        if num_bytes > _MANY_BYTES:
            print(
                f"{folder}: reading {len(unknown)} images ({num_bytes / 2**30:.1f} GiB) to know them again; this "
                "happens once.",
                file=sys.stderr,
                flush=True,
            )
        with ThreadPoolExecutor(_THREADS) as pool:
            digests = pool.map(lambda image: _digest(folder / image.name), unknown)
            for image, digest in zip(unknown, digests, strict=True):
                known[image.name] = (image.num_bytes, image.changed_at, digest)
        remember(file, remembered | known)
    return [known[image.name][2] for image in images]


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:32]


def _read(file: Path) -> dict[str, tuple[int, int, str]]:
    return {name: (num_bytes, time, digest) for name, (num_bytes, time, digest) in (recall(file) or {}).items()}
