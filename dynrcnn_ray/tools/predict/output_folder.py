"""A command's output: a folder that is there whole or not at all.

It is built as `<name>.partial` beside its place, and takes it once it is whole. What an earlier call has written there
is replaced whole; a folder that holds anything else is refused.
"""

import contextlib
import errno
import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dynrcnn_ray.config.errors import DynrcnnError, one_line

_PARTIAL = ".partial"
_MOST_SHOWN = 3


class OutputError(DynrcnnError, ValueError):
    """An output that cannot be written. Its text is one line: the folder, what is wrong, what to do."""

    would_repeat = True


@dataclass(frozen=True)
class OutputFolder:
    """A folder that a command writes.

    Attributes:
        folder: its absolute path, links resolved.
        files: names of all files that each call writes.
        folders: of each folder that it may write, what the names in it look like.
    """

    folder: Path
    files: frozenset[str]
    folders: dict[str, re.Pattern[str]]

    @property
    def partial(self) -> Path:
        """Where it is built."""
        return Path(f"{self.folder}{_PARTIAL}")

    def check(self) -> None:
        """Check all that can fail, and leave nothing behind.

        Raises:
            OutputError: a file is in the way, the folder cannot be made, or it holds what is not of such a call.
        """
        self._check_it_can_be_made()
        try:
            if self.folder.is_dir() and (foreign := self._foreign_names(self.folder, complete=True)):
                raise OutputError(
                    f"--output: {_shown(self.folder)} holds what no earlier call has written ({foreign}); "
                    "give a folder that is not there yet"
                )
            if self.partial.exists() and (foreign := self._foreign_names(self.partial, complete=False)):
                raise OutputError(
                    f"--output: {_shown(self.partial)}, where it would be built, holds something else ({foreign}); "
                    "give another folder"
                )
        except OSError as error:
            raise OutputError(f"--output: {_shown(self.folder)} cannot be read: {one_line(error)}") from None

    def _check_it_can_be_made(self) -> None:
        there = self.folder.parent
        for place in (self.partial, self.folder, *self.folder.parents):
            try:
                os.stat(place)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise OutputError(f"--output: {_shown(self.folder)}: {error.strerror}; give another folder") from None
            if not place.is_dir():
                raise OutputError(f"--output: {_shown(place)} is a file; give a folder")
            if place not in (self.partial, self.folder):
                there = place
                break
        if os.path.ismount(self.folder):
            raise OutputError(f"--output: a disk is mounted at {_shown(self.folder)}; give a folder below it")
        probe = there / f".{uuid.uuid4().hex}"
        try:
            probe.mkdir()
            probe.rmdir()
        except OSError as error:
            raise OutputError(
                f"--output: {_shown(self.folder)} cannot be made in {_shown(there)}: {error.strerror}; "
                "give another folder"
            ) from None

    def _foreign_names(self, folder: Path, *, complete: bool) -> str:
        """Names of what such a call does not write; also where `complete` ones lack a file."""
        names = set(os.listdir(folder))
        foreign = sorted(names - self.files - set(self.folders))
        for each, looks in self.folders.items():
            if (folder / each).is_dir():
                foreign += [f"{each}/{name}" for name in os.listdir(folder / each) if not looks.fullmatch(name)]
        if not foreign and names and complete and not self.files <= names:
            foreign = sorted(names)
        shown = [os.fsencode(name).decode("utf-8", "backslashreplace") for name in foreign[:_MOST_SHOWN]]
        return ", ".join([*shown, *(["..."] if len(foreign) > _MOST_SHOWN else [])])

    def begin(self) -> Callable[[], None]:
        """Make the place where it is built, without what a killed call has left there.

        Returns:
            What is to be called in the end: another call may then use the place.

        Raises:
            OutputError: another call uses it, or the place cannot be made.
        """
        try:
            self.partial.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.partial, os.O_RDONLY)
            try:
                _lock(handle, self.partial)
                for entry in os.scandir(self.partial):
                    shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)
            except BaseException:
                os.close(handle)
                raise
        except BlockingIOError:
            raise OutputError(
                f"--output: another call writes to {_shown(self.folder)} just now; wait for it, or give another folder"
            ) from None
        except OSError as error:
            raise OutputError(f"--output: {_shown(self.partial)} cannot be made: {one_line(error)}") from None
        return lambda: os.close(handle)

    def put_into_place(self) -> None:
        """What was built takes the folder's place, whole.

        Raises:
            OutputError: it cannot; it is then still where it was built.
        """
        earlier = self.folder.with_name(f".{uuid.uuid4().hex}")
        try:
            with contextlib.suppress(FileNotFoundError):
                os.rename(self.folder, earlier)
            try:
                os.rename(self.partial, self.folder)
            except BaseException:
                if earlier.exists():
                    os.rename(earlier, self.folder)
                raise
        except OSError as error:
            where = f"{_shown(self.folder)} cannot be replaced"
            raise OutputError(f"--output: {where}: {one_line(error)}; all is in {_shown(self.partial)}") from None
        shutil.rmtree(earlier, ignore_errors=True)

    def discard(self) -> None:
        """Remove what was built."""
        shutil.rmtree(self.partial, ignore_errors=True)


def _lock(handle: int, folder: Path) -> None:
    """Lock a folder for other calls until the handle is closed or this process has ended.

    Raises:
        BlockingIOError: another call has it.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise BlockingIOError from None
        return  # Some network file systems lock no folders.
    # Another call may have put it into its place in the meantime.
    if not folder.exists() or os.stat(folder).st_ino != os.fstat(handle).st_ino:
        raise BlockingIOError


def _shown(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")
