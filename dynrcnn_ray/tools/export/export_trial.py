"""What the command `export` does: writes a trained detector, and says how it is used."""

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dynrcnn_ray.config.extras import import_extra
from dynrcnn_ray.config.sections import ShapesConfig, TestConfig
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.data.shapes import generate_shapes
from dynrcnn_ray.options.command import Call
from dynrcnn_ray.options.output import writing
from dynrcnn_ray.options.shared import storage_location
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.tools.export.command import ExportOptions, output_file
from dynrcnn_ray.tools.export.export import export_onnx, export_torchvision, plain_detector, precision_of_onnx
from dynrcnn_ray.tools.used_detector import used_detector

_OTHER_SIZE = 0.7
_GENERATED, _GENERATED_SIZE = 3, 320


def export(options: ExportOptions, _call: Call) -> int:
    """Write a detector, and say how it is used."""
    if options.format == "onnx":
        # What writes the graph and what checks it, before there is one.
        for package in ("onnx", "onnxruntime"):
            import_extra(package, "onnx")
    name, trial, checkpoint, names = used_detector(options)
    config = trial.config
    file = output_file(options, name)
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
    of_kind = "generated" if options.weights else "validation"
    encoded = _generated() if options.weights else _of_the_validation_split(options, trial)
    reached = precision_of_onnx(file, model, _in_two_sizes(encoded), batch=options.batch)
    taken = f"images, float32 [{options.batch}, 3," if options.batch else "image, float32 [3,"
    print(
        f"{file}: input {taken} height, width], RGB in 0..1. Beside PyTorch on {reached.runs} {of_kind} "
        f"pictures, two sizes of each: boxes differ by at most {reached.pixels:.1e} pixels, scores by at most "
        f"{reached.score:.1e}"
        + (f"; in {reached.other_counts} the number of detections differs." if reached.other_counts else ".")
        + ("" if reached.detections else " Nothing was detected in them, which compares little.")
    )
    return 0


def _of_the_validation_split(options: ExportOptions, trial: Trial) -> Iterator[bytes]:
    """Validation pictures as the store holds them."""
    store = ResultStore.open(storage_location(options.storage, options.scale))
    yield from store.images(trial.inputs.data)["jpeg"]


def _generated() -> Iterator[bytes]:
    """A few pictures that need no data set."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "shapes"
        generate_shapes(ShapesConfig(train_images=1, val_images=_GENERATED, image_size=_GENERATED_SIZE), root)
        for file in sorted((root / "val").glob("*.jpg")):
            yield file.read_bytes()


def _in_two_sizes(encoded: Iterator[bytes]) -> Iterator[Any]:
    """Each picture, and once more smaller and turned on its side."""
    for content in encoded:
        image = Image.open(io.BytesIO(content)).convert("RGB")
        yield np.array(image)
        smaller = (max(1, round(_OTHER_SIZE * image.height)), max(1, round(_OTHER_SIZE * image.width)))
        yield np.array(image.transpose(Image.Transpose.ROTATE_90).resize(smaller))
