"""Where the images of a split are: under the names in its annotations, or under names that mean the same.

Tools write names with a folder in front, with backslashes, with %20 for a space, in another Unicode form or another
case than the disk has. Such a name is used where it can mean one file alone.
"""

import contextlib
import os
import unicodedata
import urllib.parse
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dynrcnn_ray.data.annotations import ABSENT

_MOST_HINTS = 3


class ImageFile(NamedTuple):
    """A file that is there.

    Attributes:
        name: Its path below the split's folder.
        num_bytes: Its size.
        changed_at: When its content, owner, permissions or links changed last (ctime), in nanoseconds. Programs that
            copy or unpack files set the time of the content (mtime) to what it was elsewhere.
    """

    name: str
    num_bytes: int
    changed_at: int


def find_images(folder: Path, names: Sequence[str]) -> list[ImageFile | list[str]]:
    """Find each image; for one that is not there, give the names of a few files that somebody may have meant.

    Raises:
        OSError: whether it is there cannot be told just now.
    """
    parents = {os.path.dirname(os.path.normpath(name)) for name in names}
    there = {file.name: file for parent in parents for file in _scan(folder, parent)}
    found: list[ImageFile | list[str]] = [there.get(os.path.normpath(name), []) for name in names]
    absent = [row for row, file in enumerate(found) if not isinstance(file, ImageFile)]
    if not absent:
        return found
    below = _FilesBelow(folder)
    meant = {row: below.meant_by(names[row]) for row in absent}
    claims = Counter(file.name for file in found if isinstance(file, ImageFile))
    claims.update(files[0].name for files in meant.values() if len(files) == 1)
    for row, files in meant.items():
        # A file that two names may mean is given to neither.
        is_certain = len(files) == 1 and claims[files[0].name] == 1
        hints = [file.name for file in files or below.similar_to(names[row])][:_MOST_HINTS]
        found[row] = files[0] if is_certain else hints
    return found


class _FilesBelow:
    """All files below a folder, by what remains of their names once all spellings are made one."""

    def __init__(self, folder: Path) -> None:
        self._of_stem: dict[str, list[tuple[tuple[str, ...], ImageFile]]] = defaultdict(list)
        for parent, _, _ in os.walk(folder):
            # A folder that no image needs may be one that cannot be read.
            with contextlib.suppress(OSError):
                for file in _scan(folder, os.path.relpath(parent, folder)):
                    parts = _spelled_alike(file.name)
                    self._of_stem[PurePosixPath(parts[-1]).stem].append((parts, file))

    def similar_to(self, name: str) -> list[ImageFile]:
        """The files of the same name with any suffix, in any folder."""
        return [file for _, file in self._of_stem.get(PurePosixPath(_spelled_alike(name)[-1]).stem, [])]

    def meant_by(self, name: str) -> list[ImageFile]:
        """The files whose paths are the name, perhaps but for folders in front of either."""
        wanted = _spelled_alike(name)
        shared = {}
        for parts, file in self._of_stem.get(PurePosixPath(wanted[-1]).stem, []):
            length = min(len(parts), len(wanted))
            if parts[-length:] == wanted[-length:]:
                shared[file] = length
        return [file for file, length in shared.items() if length == max(shared.values())]


def _spelled_alike(name: str) -> tuple[str, ...]:
    plain = unicodedata.normalize("NFKC", urllib.parse.unquote(name)).casefold()
    return tuple(part for part in plain.replace("\\", "/").split("/") if part not in ("", ".")) or ("",)


def _scan(folder: Path, parent: str) -> Iterator[ImageFile]:
    """What a folder below the split's holds, folders among it: a folder named like an image has its own message."""
    with _nothing_if_absent(), os.scandir(folder / parent) as entries:
        for entry in entries:
            with _nothing_if_absent():
                stat = entry.stat()
                yield ImageFile(os.path.normpath(os.path.join(parent, entry.name)), stat.st_size, stat.st_ctime_ns)


@contextlib.contextmanager
def _nothing_if_absent() -> Iterator[None]:
    try:
        yield
    except ValueError:  # A name that no file can have.
        pass
    except OSError as error:
        if error.errno not in ABSENT:
            raise
