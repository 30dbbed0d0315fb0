"""Take a trained trial elsewhere: into torchvision alone, or as an ONNX graph.

`torchvision` writes the weights with the class names and a short script that loads them without this package; `predict`
and `export` take that file by --weights on any machine. `onnx` writes a graph that takes an image, or a batch, of any
size; it is run by onnxruntime on pictures of the validation split, which the store holds, and the largest difference is
told. Both hold the detector at one size, with its plain NMS.

Command:  dynrcnn export TRIAL --format torchvision|onnx [--checkpoint best|STEP] [--batch 8] [--output DIR|FILE]
          dynrcnn export --weights FILE --format onnx
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.former import with_flags_of_today
from dynrcnn_ray.options.output import output_folder
from dynrcnn_ray.tools.trained_trial import TrainedDetector, check_detector

_LARGEST_BATCH = 16
_SUFFIXES = {"torchvision": ".pth", "onnx": ".onnx"}


@dataclass(frozen=True)
class ExportOptions(TrainedDetector):
    """Options of the command `export`."""

    format: Literal["torchvision", "onnx"] = "torchvision"
    """What to write."""
    batch: int = 0
    """For onnx: images that the graph takes at once, 1 to 16, all of one size; a graph is for one number. 0: one image,
    without the axis of a batch."""
    output: Path = Path(".")
    """Folder of what is written, or a file: NAME.onnx for onnx, NAME.pth for torchvision."""


def output_file(options: ExportOptions, name: str) -> Path:
    """The file of `--output`, or in its folder.

    Args:
        options: of the command.
        name: of the detector, for a file in a folder.

    Raises:
        ConfigError: it cannot be written, or is another format's.
    """
    suffix = _SUFFIXES[options.format]
    asked = options.output
    if asked.suffix not in _SUFFIXES.values() or os.path.isdir(os.path.expanduser(asked)):
        folder, file = asked, f"{name}{suffix}"
    elif asked.suffix == suffix:
        folder, file = asked.parent, asked.name
    else:
        other = next(kind for kind, ending in _SUFFIXES.items() if ending == asked.suffix)
        raise ConfigError(f"--output: {str(asked)!r} is for --format {other}, and --format is {options.format}")
    beside = [f"load_{Path(file).stem}.py"] if options.format == "torchvision" else []
    return output_folder(folder, [file, *beside]) / file


def _check(options: ExportOptions, _call: Call) -> None:
    check_detector(options)
    if options.weights and options.format == "torchvision":
        raise ConfigError("--weights: is what --format torchvision writes; choose --format onnx")
    if not 0 <= options.batch <= _LARGEST_BATCH:
        raise ConfigError(f"--batch: {options.batch} must be 1 to {_LARGEST_BATCH}, or 0 for one image without a batch")
    if options.batch and options.format != "onnx":
        raise ConfigError(
            f"--batch: {options.batch} is for --format onnx, and --format is {options.format}, whose detector takes a "
            "list of any number of images"
        )
    # Before PyTorch is imported for the detector, and with it the trial's id is known.
    output_file(options, Path(options.weights).stem or options.trial)


COMMAND = Command(
    name="export",
    group="Use a detector",
    title="take a trained trial into torchvision alone, or as ONNX",
    description="Take a trained trial elsewhere: weights with the lines that load them into torchvision alone, or an "
    "ONNX graph for images of any size, checked on pictures of the validation split.",
    options=ExportOptions,
    body="dynrcnn_ray.tools.export.export_trial:export",
    check=_check,
    former=with_flags_of_today,
)
