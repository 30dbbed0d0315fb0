"""What the command `export` does: writes a trial's detector, and says how it is used."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from dynrcnn_ray.config.sections import TestConfig
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.options.command import Call
from dynrcnn_ray.options.output import writing
from dynrcnn_ray.options.shared import storage_location
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.tools.checkpoint_of_trial import usable_checkpoint
from dynrcnn_ray.tools.export.command import ExportOptions, output_file
from dynrcnn_ray.tools.export.export import export_onnx, export_torchvision, plain_detector, precision_of_onnx
from dynrcnn_ray.tools.trained_trial import trained_trial

_OTHER_SIZE = 0.7


def export(options: ExportOptions, _call: Call) -> int:
    """Write a trial's detector, and say how it is used."""
    trial = trained_trial(options)
    config = trial.config
    file = output_file(options)
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
        export_onnx(model, class_names, ids, file, batch=options.batch)
    reached = precision_of_onnx(file, model, _pictures(options, trial), batch=options.batch)
    taken = f"images, float32 [{options.batch}, 3," if options.batch else "image, float32 [3,"
    print(
        f"{file}: input {taken} height, width], RGB in 0..1. Beside PyTorch on {reached.runs} pictures, two "
        f"sizes of each: boxes differ by at most {reached.pixels:.1e} pixels, scores by at most {reached.score:.1e}"
        + (f"; in {reached.other_counts} the number of detections differs." if reached.other_counts else ".")
    )
    return 0


def _pictures(options: ExportOptions, trial: Trial) -> Iterator[Any]:
    """Validation pictures as the store holds them, and each once more smaller and turned on its side."""
    store = ResultStore.open(storage_location(options.storage, options.scale))
    for content in store.images(trial.inputs.data)["jpeg"]:
        image = Image.open(io.BytesIO(content)).convert("RGB")
        yield np.array(image)
        smaller = (max(1, round(_OTHER_SIZE * image.height)), max(1, round(_OTHER_SIZE * image.width)))
        yield np.array(image.transpose(Image.Transpose.ROTATE_90).resize(smaller))
