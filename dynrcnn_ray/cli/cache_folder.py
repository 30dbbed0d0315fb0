"""A folder for generated images and fonts where the home cannot be written, as in many containers."""

import os
import sys
import tempfile
from pathlib import Path


def use_a_cache_that_can_be_written() -> None:
    """Let this process and those that it starts use a temporary folder where the user's cache cannot be written.

    It is the same one each time, so that nothing is generated twice; one line says where it is.
    """
    usual = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if _can_be_written(usual):
        return
    instead = Path(tempfile.gettempdir()) / f"dynrcnn_ray_{os.getuid()}"
    instead.mkdir(mode=0o700, exist_ok=True)
    print(f"Cached files go to {instead}: {usual} cannot be written.", file=sys.stderr, flush=True)
    os.environ["XDG_CACHE_HOME"] = str(instead)
    os.environ.setdefault("MPLCONFIGDIR", str(instead / "matplotlib"))


def _can_be_written(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)
