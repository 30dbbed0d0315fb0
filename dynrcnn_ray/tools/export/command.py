"""Take a trained trial elsewhere: into torchvision alone, or as an ONNX graph.

`torchvision` writes the weights with the class names and a short script that loads them without this package. `onnx`
writes a graph that takes an image of any size; it is run by onnxruntime on pictures of the validation split, which the
store holds, and the largest difference is told. Both hold the detector at one size, with its plain NMS.

Command:  dynrcnn export --trial TRIAL_ID --format torchvision|onnx [--checkpoint best|STEP] [--output DIR|FILE]
"""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dynrcnn_ray.config.sections import CheckpointName, TestConfig
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.output import output_folder, writing
from dynrcnn_ray.options.shared import storage_location
from dynrcnn_ray.tools.trained_trial import TrainedTrial, trained_trial, usable_checkpoint

_OTHER_SIZE = 0.7
_SUFFIXES = {"torchvision": ".pth", "onnx": ".onnx"}


@dataclass(frozen=True)
class ExportOptions(TrainedTrial):
    """Options of the command `export`."""

    format: Literal["torchvision", "onnx"] = "torchvision"
    """What to write."""
    checkpoint: CheckpointName = "last"
    """The trial's last checkpoint; its best one, where it trained with --run.evaluate-checkpoints; or a step's."""
    output: Path = Path(".")
    """Folder of what is written, or a file: NAME.onnx for onnx, NAME.pth for torchvision."""


def export(options: ExportOptions, _call: Call) -> int:
    """Write a trial's detector, and say how it is used."""
    trial = trained_trial(options)
    config = trial.config
    file = _file(options)

    from dynrcnn_ray.tools.export.export import export_onnx, export_torchvision, plain_detector, precision_of_onnx

    checkpoint, names = usable_checkpoint(options, trial, options.checkpoint)
    ids = sorted(names)
    class_names = [names[category] for category in ids]
    if config.test != TestConfig():
        print("note: the section test is not part of the file: it detects at one size, with plain NMS.")
    if options.format == "torchvision":
        with writing(file):
            script = export_torchvision(config, checkpoint["model"], class_names, ids, file)
        print(f"{file}, which needs torchvision alone. {script}:\n\n{script.read_text()}", end="")
        return 0
    model = plain_detector(config, checkpoint["model"], len(ids))
    with writing(file):
        export_onnx(model, class_names, ids, file)
    reached = precision_of_onnx(file, model, _pictures(options, trial))
    print(
        f"{file}: input image, float32 [3, height, width], RGB in 0..1. Beside PyTorch on {reached.runs} pictures, two "
        f"sizes of each: boxes differ by at most {reached.pixels:.1e} pixels, scores by at most {reached.score:.1e}"
        + (f"; in {reached.other_counts} the number of detections differs." if reached.other_counts else ".")
    )
    return 0


def _file(options: ExportOptions) -> Path:
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


def _pictures(options: ExportOptions, trial: Trial) -> Iterator[Any]:
    """Validation pictures as the store holds them, and each once more smaller and turned on its side."""
    import numpy as np
    from PIL import Image

    from dynrcnn_ray.store.results_store import ResultStore

    store = ResultStore.open(storage_location(options.storage, options.scale))
    for content in store.images(trial.inputs.data)["jpeg"]:
        image = Image.open(io.BytesIO(content)).convert("RGB")
        yield np.array(image)
        smaller = (max(1, round(_OTHER_SIZE * image.height)), max(1, round(_OTHER_SIZE * image.width)))
        yield np.array(image.transpose(Image.Transpose.ROTATE_90).resize(smaller))


COMMAND = Command(
    name="export",
    group="Use a detector",
    title="take a trained trial into torchvision alone, or as ONNX",
    description="Take a trained trial elsewhere: weights with the lines that load them into torchvision alone, or an "
    "ONNX graph for images of any size, checked on pictures of the validation split.",
    options=ExportOptions,
    run=export,
)
