"""A folder for Ray's own files that Ray can use, also where `TMPDIR` is not one."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dynrcnn_ray.data.owner import own_temporary_folder

_SCRATCH = "dynrcnn_ray_scratch_"
_LOCK = "in_use"
_SHORT = "/tmp"
_LONGEST_SOCKET = 107
"""Bytes of a Unix socket's path on Linux."""
_OF_RAY = len("/ray/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store")
"""Bytes that Ray adds, with the largest process id."""


def temporary_folder() -> str:
    """The folder in which Ray makes its own: it looks at a variable of its own first."""
    return os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or _SHORT


def use_a_folder_that_ray_can_use() -> None:
    """Let this process and those that it starts use `/tmp`, or one's own folder there, where Ray cannot use `TMPDIR`.

    One line says so.
    """
    folder = temporary_folder()
    if complaint := _complaint(folder):
        instead = _SHORT
        with contextlib.suppress(OSError):
            instead = str(own_temporary_folder(_SHORT)) if _complaint(_SHORT) else _SHORT
        print(f"Temporary files go to {instead}: {folder} {complaint}.", flush=True)
        os.environ["TMPDIR"] = os.environ["RAY_TMPDIR"] = instead
        tempfile.tempdir = None


def _complaint(folder: str) -> str:
    longest = _LONGEST_SOCKET - _OF_RAY
    if not folder.isascii():
        return "is not ASCII, and Ray's sockets must be"
    if len(folder) > longest:
        return f"is too long for Ray's sockets (more than {longest} bytes)"
    if not os.path.isabs(folder):
        return "is no absolute path"
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return "cannot be made"
    if not os.access(folder, os.W_OK | os.X_OK):
        return "cannot be written"
    # All of Ray's sessions lie in one folder, which the first user of the machine has made.
    of_ray = os.path.join(folder, "ray")
    if os.path.lexists(of_ray) and not (os.path.isdir(of_ray) and os.access(of_ray, os.W_OK | os.X_OK)):
        return f"holds {of_ray}, where nothing can be written"
    return ""


@contextlib.contextmanager
def scratch_folder() -> Iterator[str]:
    """A folder for what nobody needs afterwards. Those of processes that were killed are removed first."""
    _remove_abandoned()
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, ignore_cleanup_errors=True) as folder:
        # The system lets go of the lock when the process ends, however it ends.
        lock = os.open(f"{folder}/{_LOCK}", os.O_CREAT | os.O_WRONLY, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            os.close(lock)


def _remove_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        # Somebody else's, or one that has just been made or removed and has no lock.
        with contextlib.suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            lock = os.open(folder / _LOCK, os.O_WRONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
