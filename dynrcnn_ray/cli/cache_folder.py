"""A folder for generated images and fonts where the home cannot be written, as in many containers."""

import os
import sys
from pathlib import Path

from dynrcnn_ray.data.owner import is_another_users, own_temporary_folder


def use_a_cache_that_can_be_written() -> None:
    """Let this process and those that it starts use a temporary folder where the user's cache cannot be used.

    It is the same one each time, so that nothing is generated twice; one line says where it is. What another user has
    prepared in a shared folder is not used.
    """
    usual = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")).absolute()
    complaint = _complaint(usual)
    if not complaint:
        return
    try:
        instead = own_temporary_folder()
    except OSError:
        told = f"No folder for cached files: {usual} {complaint}, and no temporary folder can be written"
        print(f"{told}; set XDG_CACHE_HOME.", file=sys.stderr, flush=True)
        return
    print(f"Cached files go to {instead}: {usual} {complaint}.", file=sys.stderr, flush=True)
    os.environ["XDG_CACHE_HOME"] = str(instead)
    os.environ.setdefault("MPLCONFIGDIR", str(instead / "matplotlib"))


def _complaint(folder: Path) -> str:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return "cannot be written"
    if not os.access(folder, os.W_OK | os.X_OK):
        return "cannot be written"
    return "holds files of another user" if is_another_users(folder / "dynrcnn_ray") else ""
