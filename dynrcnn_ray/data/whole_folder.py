"""A folder that is there whole or not at all."""

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def built_beside(folder: Path) -> Iterator[Path]:
    """A place beside a folder in which to build it; rename it into the folder's place once it is whole.

    What is left there at the end, as of two processes one wins, is removed.
    """
    building = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    try:
        yield building
    finally:
        shutil.rmtree(building, ignore_errors=True)
