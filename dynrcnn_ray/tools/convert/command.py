"""Convert a YOLO or Pascal VOC folder to a COCO data set, and check what has come out.

Command:  dynrcnn convert-data FOLDER OUT
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.data.check.command import CheckOptions, check_one_more, run_check_data
from dynrcnn_ray.options.command import Call, Command


@dataclass(frozen=True)
class ConvertOptions:
    """Options of the command `convert-data`."""

    folder: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FOLDER")] = ""
    """The YOLO or VOC data set; it is not written to."""
    out: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="OUT")] = ""
    """Where the COCO data set goes: a folder that is not there yet."""


def convert_data(options: ConvertOptions, call: Call) -> int:
    """Convert a data set, then check it.

    Returns:
        The exit code: 0 if a run would take it, 2 if not.
    """
    if not (options.folder and options.out):
        raise ConfigError("folder and out: give both, the data set's folder and the one to write")
    from dynrcnn_ray.tools.convert.convert import convert_to_coco

    folder, out = (Path(path).expanduser().absolute() for path in (options.folder, options.out))
    counts = convert_to_coco(folder, out)
    print(f"{out}: {', '.join(f'{count} images of {split}' for split, count in counts.items())}")
    usable = True
    one_split = "" if "val" in counts else " --data.val-fraction 0.2"
    if "train" in counts:
        data = DataConfig(root=str(out), val_fraction=0.2 if one_split else 0.0)
        usable = run_check_data(CheckOptions(data=data), call) == 0
    for split in counts:
        if split == "test" or "train" not in counts:
            usable &= check_one_more(str(out), split)
    place = shlex.quote(str(out))
    if "train" in counts:
        print(f"To train on it: --data.root {place}{one_split}")
    else:
        print(
            f"It has no split to train on. To measure on it: evaluate --data-root {place} --split {next(iter(counts))}"
        )
    return 0 if usable else 2


COMMAND = Command(
    name="convert-data",
    group="Data",
    title="convert a YOLO or VOC folder to a COCO data set",
    description="Convert a YOLO or Pascal VOC folder to a COCO data set, and check what has come out.",
    options=ConvertOptions,
    run=convert_data,
)
