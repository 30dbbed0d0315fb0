"""What to do about a file of the store that cannot be used.

Damage and access are two things. A file whose content is read and is wrong is to be moved out of the way, and is made
again. A file that cannot be read, for lack of permission, of file descriptors or of a connection, may be whole: it
stays where it is. No remedy says to delete anything: to move a file away loses nothing.
"""

import errno

FOREIGN_REMEDY = "move it away or choose another storage"
_COURSE_REMEDY = (
    "move it and trials/{name}.parquet away, then repeat the command that ran the trial: it goes on from its last "
    "checkpoint and writes both again"
)
_REMEDIES = {
    "trials": "move it away, then repeat the command that ran the trial: it goes on from its last checkpoint",
    "running": "move it away; the trial writes it again at its next checkpoint",
    "dynamics": _COURSE_REMEDY,
    "proposals": _COURSE_REMEDY,
    "statistics": _COURSE_REMEDY,
    "detections": _COURSE_REMEDY,
    "images": "move it away; the next trial on these data writes it again",
    "classes": "move it away, then repeat `inspect {name}`",
    "errors": "move it away, then repeat `inspect {name}`",
    "plans": "move it away, then repeat the command that wrote it: nothing that has finished is trained again",
}
"""What to do about a damaged file, by its folder."""
_REMEDY = "move it away, then repeat the command that wrote it"

_ACCESS_REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "give your user the right to read it"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "end other programs, or allow more open files (ulimit -n)"),
}
_ACCESS_REMEDY = "check the disk or the connection, and your rights"


def folder_and_name(relative: str) -> tuple[str, str]:
    """Folder and name of a file of the store, the name without its suffix."""
    folder, _, file = relative.partition("/")
    return folder, file.removesuffix(".parquet")


def remedy_of(relative: str) -> str:
    """What to do about a damaged file: the end of a sentence about it."""
    folder, name = folder_and_name(relative)
    return _REMEDIES.get(folder, _REMEDY).format(name=name)


def access_remedy(error: BaseException) -> str:
    """What to do about a file or a folder that cannot be accessed: the end of a sentence about it."""
    # pyarrow gives no number for what an object store answers, nor for a folder in the place of a file.
    if str(error).endswith("is a directory"):
        return "move that folder away, then repeat the command"
    remedy = _ACCESS_REMEDIES.get(getattr(error, "errno", None) or 0, _ACCESS_REMEDY)
    return f"{remedy}; then repeat the command, the file itself may be whole"
