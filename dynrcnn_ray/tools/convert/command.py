"""Convert a YOLO or Pascal VOC folder to a COCO data set, and check what has come out.

Command:  dynrcnn convert-data FOLDER OUT
"""

from dataclasses import dataclass
from typing import Annotated

import tyro

from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.options.command import Call, Command


@dataclass(frozen=True)
class ConvertOptions:
    """Options of the command `convert-data`."""

    folder: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FOLDER")] = ""
    """The YOLO or VOC data set; it is not written to."""
    out: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="OUT")] = ""
    """Where the COCO data set goes: a folder that is not there yet."""


def _check(options: ConvertOptions, _call: Call) -> None:
    if not (options.folder and options.out):
        raise ConfigError("folder and out: give both, the data set's folder and the one to write")


COMMAND = Command(
    name="convert-data",
    group="Data",
    title="convert a YOLO or VOC folder to a COCO data set",
    description="Convert a YOLO or Pascal VOC folder to a COCO data set, and check what has come out.",
    options=ConvertOptions,
    body="dynrcnn_ray.tools.convert.convert_data:convert_data",
    check=_check,
)
