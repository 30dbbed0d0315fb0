"""Convert a YOLO or Pascal VOC folder to a COCO data set, and check what has come out.

Command:  dynrcnn convert-data FOLDER --output DIR
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.options.command import Call, Command


@dataclass(frozen=True)
class ConvertOptions:
    """Options of the command `convert-data`."""

    folder: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FOLDER")] = ""
    """The YOLO or VOC data set; it is not written to."""
    output: Path | None = None
    """Folder of the COCO data set that is made: one that is not there yet."""


def _check(options: ConvertOptions, _call: Call) -> None:
    if not (options.folder and options.output):
        raise ConfigError("folder, --output: give both, the data set's folder and the one to write")


def _with_flags_of_today(arguments: Sequence[str]) -> Sequence[str]:
    """The folder to write stood behind the other one, without a flag."""
    if len(arguments) == 2 and not any(each.startswith("-") for each in arguments):
        return [arguments[0], "--output", arguments[1]]
    return arguments


COMMAND = Command(
    name="convert-data",
    group="Data",
    title="convert a YOLO or VOC folder to a COCO data set",
    description="Convert a YOLO or Pascal VOC folder to a COCO data set, and check what has come out.",
    options=ConvertOptions,
    body="dynrcnn_ray.tools.convert.convert_data:convert_data",
    check=_check,
    former=_with_flags_of_today,
)
