"""A folder that is there whole or not at all."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from dynrcnn_ray.data.annotations import DataError


@contextlib.contextmanager
def built_beside(folder: Path) -> Iterator[Path]:
    """A place beside a folder in which to build it; rename it into the folder's place once it is whole.

    What is left there at the end, as of two processes one wins, is removed.
    """
    building = beside(folder)
    try:
        yield building
    finally:
        shutil.rmtree(building, ignore_errors=True)


def put_in_place(building: Path, folder: Path) -> None:
    """Rename a folder that is whole into its place; what is there is moved out of the way first, and removed.

    Whoever reads the old one by its name misses it for no longer than that takes.
    """
    aside = beside(folder)
    try:
        with contextlib.suppress(FileNotFoundError):
            folder.rename(aside)
        try:
            building.rename(folder)
        except OSError:
            # Of two processes one wins.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True) if aside.is_dir() else aside.unlink(missing_ok=True)


def beside(folder: Path) -> Path:
    """A name beside a folder that nobody else uses."""
    return folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")


def refuse_if_it_cannot_be_made(folder: Path) -> None:
    """Ask before any work whether a new folder can be made; it is not made.

    Raises:
        DataError: it holds something, or it cannot be made.
    """
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise DataError(f"{folder}: holds something already; give a new folder")
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); give a new folder") from None
    existing = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not existing.is_dir():
        what = "holds something already" if existing == folder else f"cannot be made: {existing} is no folder"
        raise DataError(f"{folder}: {what}; give a new folder")
    parent = folder.parent if existing == folder else existing
    probe = beside(parent / folder.name)
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        reason = f"{parent}: {error.strerror}"
        raise DataError(f"{folder}: cannot be made ({reason}); give a folder elsewhere, or make it possible") from None
