"""Take a trained trial elsewhere: into torchvision alone, or as an ONNX graph.

`torchvision` writes the weights with the class names and a short script that loads them without this package. `onnx`
writes a graph that takes an image, or a batch, of any size; it is run by onnxruntime on pictures of the validation
split, which the store holds, and the largest difference is told. Both hold the detector at one size, with its plain
NMS.

Command:  dynrcnn export --trial TRIAL_ID --format torchvision|onnx [--checkpoint best|STEP] [--batch 8]
          [--output DIR|FILE]
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dynrcnn_ray.config.sections import CheckpointName
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.output import output_folder
from dynrcnn_ray.tools.trained_trial import TrainedTrial, trained_trial

_LARGEST_BATCH = 16
_SUFFIXES = {"torchvision": ".pth", "onnx": ".onnx"}


@dataclass(frozen=True)
class ExportOptions(TrainedTrial):
    """Options of the command `export`."""

    format: Literal["torchvision", "onnx"] = "torchvision"
    """What to write."""
    checkpoint: CheckpointName = "last"
    """The trial's last checkpoint; its best one, where it trained with --run.evaluate-checkpoints; or a step's."""
    batch: int = 0
    """For onnx: images that the graph takes at once, 1 to 16, all of one size; a graph is for one number. 0: one image,
    without the axis of a batch."""
    output: Path = Path(".")
    """Folder of what is written, or a file: NAME.onnx for onnx, NAME.pth for torchvision."""


def output_file(options: ExportOptions) -> Path:
    """The file of `--output`, or in its folder.

    Raises:
        ConfigError: it cannot be written, or is another format's.
    """
    suffix = _SUFFIXES[options.format]
    asked = options.output
    if asked.suffix not in _SUFFIXES.values() or os.path.isdir(os.path.expanduser(asked)):
        folder, name = asked, f"{options.trial}{suffix}"
    elif asked.suffix == suffix:
        folder, name = asked.parent, asked.name
    else:
        other = next(kind for kind, ending in _SUFFIXES.items() if ending == asked.suffix)
        raise ConfigError(f"--output: {str(asked)!r} is for --format {other}, and --format is {options.format}")
    beside = [f"load_{Path(name).stem}.py"] if options.format == "torchvision" else []
    return output_folder(folder, [name, *beside]) / name


def _check(options: ExportOptions, _call: Call) -> None:
    trained_trial(options)
    if not 0 <= options.batch <= _LARGEST_BATCH:
        raise ConfigError(f"--batch: {options.batch} must be 1 to {_LARGEST_BATCH}, or 0 for one image without a batch")
    if options.batch and options.format != "onnx":
        raise ConfigError(
            f"--batch: {options.batch} is for --format onnx, and --format is {options.format}, whose detector takes a "
            "list of any number of images"
        )
    output_file(options)


COMMAND = Command(
    name="export",
    group="Use a detector",
    title="take a trained trial into torchvision alone, or as ONNX",
    description="Take a trained trial elsewhere: weights with the lines that load them into torchvision alone, or an "
    "ONNX graph for images of any size, checked on pictures of the validation split.",
    options=ExportOptions,
    body="dynrcnn_ray.tools.export.export_trial:export",
    check=_check,
)
