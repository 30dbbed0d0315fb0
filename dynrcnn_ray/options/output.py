"""Where a command writes for its user: asked before the work begins, made when there is something to write."""

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from dynrcnn_ray.config.validation import ConfigError


def output_folder(folder: Path, names: Sequence[str] = ()) -> Path:
    """The absolute path of the folder of `--output`, if files can be written there. Nothing is made yet.

    Args:
        folder: as it was given.
        names: of the files, where they are known.

    Raises:
        ConfigError: it is no folder, cannot be made or may not be written, or a folder has a file's name.
    """
    try:
        path = folder.expanduser().absolute()
        nearest = next(each for each in (path, *path.parents) if _is_there(each))
        if not nearest.is_dir():
            raise ConfigError(f"--output: {str(folder)!r} cannot be a folder, as {nearest} is none; choose another")
        for name in names:
            if (path / name).is_dir():
                raise ConfigError(f"--output: {path / name} is a folder, and a file of this name is to be written")
        # Tried: permissions say nothing of a file system that takes no files. The file has no name, so nothing is left.
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except (OSError, RuntimeError) as error:  # An unknown user, as in ~nobody, raises a RuntimeError.
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"--output: {str(folder)!r} cannot be written ({why}); choose another folder") from None
    return path


@contextlib.contextmanager
def writing(path: Path, besides: str = "") -> Iterator[None]:
    """Report in a line that an output could not be written after all, as on a full disk.

    Args:
        path: what is written.
        besides: what is not lost.

    Raises:
        ConfigError: it could not.
    """
    try:
        yield
    except OSError as error:
        told = f"; {besides}" if besides else "; make room or choose another folder"
        raise ConfigError(f"--output: {path} cannot be written ({error.strerror or error}){told}") from None


def write_whole(file: Path, content: bytes) -> None:
    """Write a file whole or not at all; its folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: two commands may write the same results at once.
    partial = file.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _is_there(path: Path) -> bool:
    """Whether the path exists; a dangling link counts."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
