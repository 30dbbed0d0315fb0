"""Who owns a file in a shared folder: what another user of the machine has put there is not used."""

import os
import stat
import tempfile
from pathlib import Path

_ROOT = 0
_MOST_TRIES = 20


def is_another_users(path: Path) -> bool:
    """Whether another user can have prepared what is at a path: it, or a folder above it, is theirs in a shared folder.

    Shared is a folder that everybody may write to, such as `/tmp`. Root may do anything anyway.
    """
    is_theirs = False
    for place in (path, *path.parents):
        try:
            # A link of theirs is theirs, wherever it leads.
            found = place.lstat()
        except OSError:
            continue
        if is_theirs and stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_IWOTH:
            return True
        is_theirs |= found.st_uid not in (os.geteuid(), _ROOT)
    return False


def own_temporary_folder(parent: str = "") -> Path:
    """A folder of this user alone, the same each time.

    Args:
        parent: where; default: the system's temporary folder.

    Raises:
        OSError: there is no temporary folder that can be written.
    """
    usual = Path(parent or tempfile.gettempdir()) / f"dynrcnn_ray_{os.geteuid()}"
    # Another user may have taken a name, or all of them.
    for folder in (usual, *(usual.with_name(f"{usual.name}_{number}") for number in range(2, _MOST_TRIES))):
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
                folder.chmod(0o700)
                return folder
        except OSError:
            continue
    return Path(tempfile.mkdtemp(prefix=f"{usual.name}_", dir=usual.parent))
