"""A folder of the cache that is known by its content: it holds checksums, and is made anew where they do not fit.

Files are read again each time that a folder is opened; those of a large folder once a machine and day, or when a size
or a time of change is another.
"""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dynrcnn_ray.data.annotations import DataError, cache_folder
from dynrcnn_ray.data.owner import is_another_users
from dynrcnn_ray.data.remembered import recall, remember, say_damaged
from dynrcnn_ray.data.whole_folder import built_beside, put_in_place

_CHECKSUMS = "checksums.json"
_LARGE = 2**23
"""Bytes; what is smaller is read within a tenth of a second, also if it is hundreds of files."""
_DAY = 24 * 60 * 60
_THREADS = 8


def make_sure_of(folder: Path, build: Callable[[Path], None]) -> None:
    """See to it that a folder of the cache is there and holds what was written to it.

    Args:
        folder: where it belongs.
        build: writes its content to the folder that it is given, which it makes.

    Raises:
        OSError: it cannot be read or written.
    """
    if os.path.lexists(folder):
        problem = why_not_trusted(folder)
        if not problem:
            return
        say_damaged(folder, problem)
    with built_beside(folder) as building:
        build(building)
        checksums = {name: _checksum(building / name) for name in _names_below(building)}
        (building / _CHECKSUMS).write_text(json.dumps(checksums))
        try:
            building.rename(folder)
        except OSError:
            # Of two processes one wins: what others may read by now stays.
            if not os.path.lexists(folder):
                raise
            if why_not_trusted(folder):
                put_in_place(building, folder)


def is_sealed(folder: Path) -> bool:
    """Whether a folder holds checksums, right or wrong."""
    return (folder / _CHECKSUMS).is_file()


def why_not_trusted(folder: Path) -> str:
    """Why a folder cannot be used as it is; nothing if it holds what was written to it.

    Raises:
        OSError: it cannot be read just now, which says nothing of its content.
    """
    if is_another_users(folder):
        return "belongs to another user of this machine"
    try:
        seal = (folder / _CHECKSUMS).read_bytes()
        checksums = json.loads(seal)
        stats = {name: (folder / name).lstat() for name in checksums}
    except (FileNotFoundError, NotADirectoryError) as error:
        missing = os.path.relpath(error.filename, folder)
        return "holds no checksums" if missing == _CHECKSUMS else f"is damaged: {missing} is missing"
    except (ValueError, TypeError):
        return f"is damaged: {_CHECKSUMS} cannot be read"
    is_large = sum(found.st_size for found in stats.values()) > _LARGE
    state = hashlib.sha256(seal)
    state.update(json.dumps([(name, found.st_size, found.st_ctime_ns) for name, found in stats.items()]).encode())
    if is_large and _was_read_today(folder, state.hexdigest()):
        return ""
    with ThreadPoolExecutor(_THREADS) as pool:
        for name, checksum in zip(checksums, pool.map(lambda name: _checksum(folder / name), checksums), strict=True):
            if checksum != checksums[name]:
                return f"is damaged: {name} does not match its checksum"
    if is_large:
        remember(_reading_of(folder), [state.hexdigest(), time.time()])
    return ""


def cannot_be_written(folder: Path, error: OSError) -> DataError:
    """What to say where a folder of the cache cannot be made."""
    return DataError(
        f"{folder}: cannot be read or written ({error.strerror or error}); make room, check the permissions "
        "and the disk, or set XDG_CACHE_HOME to another folder"
    )


def _was_read_today(folder: Path, state: str) -> bool:
    reading = recall(_reading_of(folder))
    return isinstance(reading, list) and reading[0] == state and 0 <= time.time() - reading[1] < _DAY


def _reading_of(folder: Path) -> Path:
    """Where it is kept when this machine has read a folder last; several may share the cache."""
    place = hashlib.sha256(f"{platform.node()} {folder.absolute()}".encode(errors="surrogateescape")).hexdigest()[:24]
    return cache_folder() / "read" / f"{place}.json"


def _names_below(folder: Path, below: str = "") -> Iterator[str]:
    """All files, and links, which are not followed."""
    with os.scandir(folder / below) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = os.path.join(below, entry.name)
            if entry.is_dir(follow_symlinks=False):
                yield from _names_below(folder, name)
            else:
                yield name


def _checksum(path: Path) -> str:
    """Of a file's content, or of where a link leads to."""
    if path.is_symlink():
        return hashlib.sha256(b"link to " + os.fsencode(os.readlink(path))).hexdigest()
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
