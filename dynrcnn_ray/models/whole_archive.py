"""Whether a file of torch.save is still as it was written: `torch.load` itself looks at no checksum."""

import zipfile
from pathlib import Path
from typing import IO

_MARKED_AS_FOLDER = 0x10


def require_whole(archive: Path | IO[bytes]) -> None:
    """Raise if a byte of an archive has changed.

    `torch.load` also leaves tensors unset whose entry is marked as a folder, which no checksum covers.

    Raises:
        zipfile.BadZipFile: naming the entry; broken bytes make the reader raise nearly anything else, too.
    """
    with zipfile.ZipFile(archive) as opened:
        folders = (entry.filename for entry in opened.infolist() if entry.external_attr & _MARKED_AS_FOLDER)
        damaged = opened.testzip() or next(folders, None)
    if damaged:
        raise zipfile.BadZipFile(f"{damaged} is damaged")
