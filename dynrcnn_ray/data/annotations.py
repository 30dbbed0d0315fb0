"""COCO annotation files: reading one as far as its three lists."""

import contextlib
import errno
import gc
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dynrcnn_ray.config.errors import DynrcnnError

LFS_POINTER = b"version https://git-lfs"
"""How a file begins that Git LFS has not fetched."""
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""The system's errors for a path that does not exist; any other says nothing of the file."""


class DataError(DynrcnnError, ValueError):
    """Data that cannot be used. Its text has one line a problem: the file, the ids or values, the remedy."""

    would_repeat = True


class InaccessibleError(DataError):
    """A file that cannot be read, but may be whole."""

    would_repeat = False  # The disk or the mount may be back at the next attempt.


def cache_folder() -> Path:
    """Folder of what is made once a machine: generated images, cleaned annotations, packs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache.absolute() / "dynrcnn_ray"


def is_unlabelled(file: Path) -> bool:
    """Whether a file names images alone."""
    return file.name.startswith("image_info_")


def read_annotations(file: Path) -> dict[str, Any]:
    """Parse a COCO annotations file. What its lists hold is not looked at: see `check.check_annotations`.

    Raises:
        DataError: the file is missing or not JSON, lacks `images`, `categories` or `annotations`, or the first two
            are empty.
    """
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise unreadable(file, error) from None
    try:
        parsed = _parsed(raw)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: {_why_not_json(raw, error)}") from None
    if not isinstance(parsed, dict):
        raise DataError(f"{file}: holds a {type(parsed).__name__}, not an object; give COCO instance annotations")
    if is_unlabelled(file):
        parsed.setdefault("annotations", [])
    for key in ("images", "categories", "annotations"):
        if not isinstance(parsed.get(key), list):
            raise DataError(f"{file}: has no list '{key}'; give COCO instance annotations")
    for key in ("images", "categories"):
        if not parsed[key]:
            raise DataError(f"{file}: the list '{key}' is empty; at least one is needed")
    return parsed


def unreadable(file: Path, error: OSError) -> DataError:
    """The error of an annotations file that cannot be read."""
    if error.errno in ABSENT:
        return DataError(f"{file}: cannot be read ({error.strerror}); check data.root and the name of the split")
    return InaccessibleError(f"{file}: cannot be read ({error.strerror}); check the permissions and the disk")


def is_of_the_machine(error: Exception) -> bool:
    """Whether an error in reading a file says nothing of the file: no memory or handles left, a mount that is away."""
    if isinstance(error, OSError):
        return error.errno in (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT)
    return isinstance(error, MemoryError)


def _parsed(text: bytes | str) -> Any:
    with _without_garbage_collection():
        return json.loads(text)


def _why_not_json(raw: bytes, error: ValueError | RecursionError) -> str:
    """What is wrong with a file that is no JSON, and what to do."""
    if not raw.strip():
        return "not valid JSON, the file is empty; copy it again"
    if raw.startswith(LFS_POINTER):
        return "not valid JSON but a pointer of Git LFS; fetch the file with `git lfs pull`"
    if isinstance(error, UnicodeDecodeError):
        with contextlib.suppress(ValueError, RecursionError):
            _parsed(raw.decode("latin-1"))
            return f"not in UTF-8 (byte 0x{raw[error.start]:02x} at position {error.start}); save it as UTF-8"
    if isinstance(error, json.JSONDecodeError) and not raw.rstrip().endswith((b"}", b"]")):
        return f"not valid JSON ({error}); it may be truncated, copy it again"
    return f"not valid JSON ({error}); correct it or copy it again"


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    # Parsing leaves no garbage, and a collection takes nearly as long as parsing.
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
