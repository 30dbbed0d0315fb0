"""The remedy for a missing split: what its folder holds instead."""

import contextlib
import shlex
from pathlib import Path

from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.layout import splits_in
from dynrcnn_ray.data.voc_folder import is_voc
from dynrcnn_ray.data.yolo_folder import is_yolo


def remedy_for_absent_split(root: Path, split: str) -> str:
    """What to do about a split that is not below a folder; nothing if the folder tells nothing."""
    if not root.is_dir():
        return f"there is no folder {root}, check data.root"
    if splits := splits_in(root):
        names = ", ".join(map(repr, splits))
        return (
            f"there is no split {split!r}, but {names}: name one with --data.train-split, --data.val-split or, for "
            "evaluate, --split"
        )
    if name := _other_format(root):
        command = f"dynrcnn convert-data {shlex.quote(str(root))} --output NEW_FOLDER"
        return f"{root} is in the format of {name}, convert it: {command}"
    return ""


def _other_format(root: Path) -> str:
    # A folder that is broken in its own way is no help.
    with contextlib.suppress(DataError, OSError):
        if is_yolo(root):
            return "YOLO"
        if is_voc(root):
            return "Pascal VOC"
    return ""
