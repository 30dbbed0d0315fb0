"""What to do about a file of the store that cannot be used, by its folder."""

FOREIGN_REMEDY = "move it away or choose another storage"
_COURSE_REMEDY = (
    "delete it and trials/{name}.parquet, then repeat the command that ran the trial: it goes on from its last "
    "checkpoint and writes both again"
)
_REMEDIES = {
    "trials": "delete it, then repeat the command that ran the trial: it goes on from its last checkpoint",
    "running": "delete it; the trial writes it again at its next checkpoint",
    "dynamics": _COURSE_REMEDY,
    "proposals": _COURSE_REMEDY,
    "detections": _COURSE_REMEDY,
    "images": "delete it; the next trial on these data writes it again",
    "plans": "delete it, then repeat the command that wrote it: nothing that has finished is trained again",
}
"""What to do about a damaged file, by its folder."""
_REMEDY = "delete it, then repeat the command that wrote it"


def folder_and_name(relative: str) -> tuple[str, str]:
    """Folder and name of a file of the store, the name without its suffix."""
    folder, _, file = relative.partition("/")
    return folder, file.removesuffix(".parquet")


def remedy_of(relative: str) -> str:
    """What to do about a damaged file: the end of a sentence about it."""
    folder, name = folder_and_name(relative)
    return _REMEDIES.get(folder, _REMEDY).format(name=name)
