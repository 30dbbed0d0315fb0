"""What is exported detects the same: by torchvision alone, and by onnxruntime at any size."""

import dataclasses
import errno
import functools
import io
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from dynrcnn_ray.config.extras import MissingExtraError
from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.data.shapes import CATEGORIES
from dynrcnn_ray.dynamic.state import DynamicTrainingState
from dynrcnn_ray.execution.checkpoints import CheckpointFolder
from dynrcnn_ray.models.detector import Detector, build_model
from dynrcnn_ray.models.detector_weights import DetectorWeights, take_weights
from dynrcnn_ray.models.input_size import InputSizeTransform, traced_sizes
from dynrcnn_ray.store.files import StoreFiles
from dynrcnn_ray.tools.export import export
from dynrcnn_ray.tools.export.command import COMMAND
from dynrcnn_ray.tools.export.export import (
    ExportError,
    export_onnx,
    export_torchvision,
    plain_detector,
    precision_of_onnx,
)
from tests.cli.calls import call
from tests.prepared import prepared

NAMES = ["cat", "dog"]
IDS = [3, 7]


def trial(**fields: Any) -> TrialConfig:
    base = base_config("smoke")
    model = dataclasses.replace(base.model, score_threshold=0.0, **fields)
    return dataclasses.replace(base, data=dataclasses.replace(base.data, short_side=80, long_side=120), model=model)


def detector(config: TrialConfig) -> Detector:
    torch.manual_seed(0)
    model = build_model(config, 2, DynamicTrainingState(config, device=torch.device("cpu")))
    for name, parameter in model.named_parameters():
        # Initial predictors find everything equally likely.
        if "predictor" in name and name.endswith("weight"):
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


PLAIN = {
    "faster": {"backbone": "resnet18", "norm": "frozen_batch_norm"},
    "mask": {
        "backbone": "resnet18",
        "norm": "group_norm",
        "name": "mask_rcnn",
        "anchor_sizes": (32, 64, 128, 256, 512),
    },
}
DETECT = """
import importlib, sys
import torch
for name in sys.argv[1:]:
    sys.path.insert(0, name)
    loaded = importlib.import_module(f"load_{name}")
    with torch.inference_mode():
        (found,) = loaded.model([torch.load(f"{name}/image.pt")])
    torch.save(dict(found), f"{name}/found.pt")
    print(loaded.class_names)
assert not any(name.startswith("dynrcnn") for name in sys.modules)
"""


@pytest.mark.slow
def test_torchvision_alone_detects_the_same(tmp_path: Path):
    expected = {}
    for name, fields in PLAIN.items():
        config = trial(**fields)
        model = detector(config)
        image = torch.rand(3, 70, 100)
        with torch.inference_mode():
            (expected[name],) = model([image])
        script = export_torchvision(config, model.state_dict(), NAMES, IDS, tmp_path / name / f"{name}.pth")
        assert script == tmp_path / name / f"load_{name}.py"
        torch.save(image, tmp_path / name / "image.pt")
    command = [sys.executable, "-c", DETECT, *PLAIN]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [str(NAMES)] * len(PLAIN)
    for name, detections in expected.items():
        found = torch.load(tmp_path / name / "found.pt")
        assert len(found["scores"]) > 10
        assert found.keys() == detections.keys()
        for key, value in detections.items():
            torch.testing.assert_close(found[key], value, atol=1e-4, rtol=1e-4)


def test_what_torchvision_does_not_have_is_refused():
    for fields in ({}, {"backbone": "resnet50", "stride_in_1x1": True}):
        with pytest.raises(ExportError, match="--format: torchvision has no detector with model"):
            export_torchvision(trial(**fields), {}, NAMES, IDS, Path("unused.pth"))
    for fields in ({"name": "cascade_rcnn"}, {"name": "fcos"}, {"deformable": True}, {"module": "mine.py"}):
        with pytest.raises(ExportError, match="cannot be exported, only plain Faster and Mask R-CNN") as of_torchvision:
            export_torchvision(trial(**fields), {}, NAMES, IDS, Path("unused.pth"))
        with pytest.raises(ExportError) as of_onnx:
            plain_detector(trial(**fields), {}, 2)
        assert str(of_onnx.value) == str(of_torchvision.value)


def trained_detector(trained: tuple[Path, TrialConfig], name: str) -> torch.nn.Module:
    """Random weights find everything equally likely, and roundings then decide what is found."""
    folder, config = trained
    state, _ = CheckpointFolder(StoreFiles.open(folder), prepared(config).training_id).require(
        "last", last_step=config.total_steps
    )
    named = dataclasses.replace(config, model=dataclasses.replace(config.model, name=name))
    torch.manual_seed(0)
    model = build_model(named, len(CATEGORIES), DynamicTrainingState(named, device=torch.device("cpu")))
    take_weights(model, DetectorWeights(state["model"], None, "the trial"), list(CATEGORIES.values()))
    return plain_detector(named, model.state_dict(), len(CATEGORIES))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faster_rcnn", "mask_rcnn"])
def test_onnx_takes_images_of_any_size(trained: tuple[Path, TrialConfig], tmp_path: Path, name: str):
    model = trained_detector(trained, name)
    names, ids = list(CATEGORIES.values()), list(CATEGORIES)
    file = tmp_path / "model.onnx"
    export_onnx(model, names, ids, file)
    images = sorted((Path(trained[1].data.root) / "val").glob("*.jpg"))
    pictures = [
        np.array(Image.open(image).resize(size))
        for image in images[:2]
        for size in ((64, 48), (90, 50), (111, 200), (2, 300))
    ]
    reached = precision_of_onnx(file, model, pictures)
    assert reached.runs == 8
    assert reached.other_counts == 0
    # Nothing but roundings: a hundred times less than any fault.
    assert reached.pixels < 1e-3
    assert reached.score < 1e-5
    with torch.no_grad():
        model.get_submodule("roi_heads.box_predictor.cls_score").weight.mul_(1.01)  # pyright: ignore[reportCallIssue]
    assert precision_of_onnx(file, model, pictures[:1]).score > 1e-4, "a difference is seen"
    graph = onnx.load(file)
    metadata = {entry.key: json.loads(entry.value) for entry in graph.metadata_props}
    assert metadata == {"class_names": names, "category_ids": ids}
    outputs = ["boxes", "labels", "scores", *(["masks"] if name == "mask_rcnn" else [])]
    assert [output.name for output in graph.graph.output] == outputs


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "name"), [(1, "mask_rcnn"), (16, "faster_rcnn")])
def test_onnx_takes_a_batch_of_any_size(trained: tuple[Path, TrialConfig], tmp_path: Path, batch: int, name: str):
    model = trained_detector(trained, name)
    file = tmp_path / "model.onnx"
    export_onnx(model, list(CATEGORIES.values()), list(CATEGORIES), file, batch=batch)
    image = sorted((Path(trained[1].data.root) / "val").glob("*.jpg"))[0]
    pictures = [np.array(Image.open(image).resize(size)) for size in ((64, 48), (111, 200))]
    reached = precision_of_onnx(file, model, pictures, batch=batch)
    assert reached.runs == 2 * batch
    assert reached.other_counts == 0
    assert reached.pixels < 1e-3
    assert reached.score < 1e-5
    graph = onnx.load(file).graph
    outputs = ["image_index", "boxes", "labels", "scores", *(["masks"] if name == "mask_rcnn" else [])]
    assert [output.name for output in graph.output] == outputs
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_value == batch


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--format", "onnx", "--batch", "17"), "--batch: 17 must be 1 to 16, or 0 for one image"),
        (("--format", "torchvision", "--batch", "2"), "--batch: 2 is for --format onnx"),
    ],
)
def test_a_batch_that_cannot_be_is_refused(options: tuple[str, ...], told: str):
    with pytest.raises(ConfigError, match=told):
        call(COMMAND, "0123456789ab", *options)


class Resizing(torch.nn.Module):
    """What comes before the backbone: an image as it enters the network."""

    def __init__(self, transform: torch.nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.transform.resize(image)[0]  # pyright: ignore[reportCallIssue]


class Sizes(torch.nn.Module):
    """The graph's rule, of many sizes at once."""

    def __init__(self, limits: tuple[int, int]) -> None:
        super().__init__()
        self.limits = limits

    def forward(self, sizes: torch.Tensor) -> torch.Tensor:
        return traced_sizes(sizes, *self.limits)


def as_graph(module: torch.nn.Module, example: torch.Tensor, free: dict[int, str]) -> onnxruntime.InferenceSession:
    stream = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), torch.inference_mode():
        torch.onnx.export(
            module.eval(),
            (example,),
            stream,  # pyright: ignore[reportArgumentType]
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            dynamic_axes={"x": free},
        )
    return onnxruntime.InferenceSession(stream.getvalue(), providers=["CPUExecutionProvider"])


LIMITS = ((800, 1333), (600, 1000), (128, 128), (32, 32))


@pytest.mark.slow
def test_a_graph_resizes_every_size_as_torchvision_does():
    """All from 33 to 700 pixels a side, and strips of which nothing would remain."""
    rng = np.random.default_rng(0)
    sides = np.arange(33, 701)
    strips = np.array([(1, 500), (500, 1), (2, 3000), (3000, 2), (1, 1)])
    sizes = np.concatenate([np.stack(np.meshgrid(sides, sides, indexing="ij"), axis=-1).reshape(-1, 2), strips])
    for limits in LIMITS:
        session = as_graph(Sizes(limits), torch.from_numpy(sizes[:5]), {0: "n"})
        (found,) = session.run(None, {"x": sizes})
        scale = np.minimum(limits[0] / sizes.min(axis=1), limits[1] / sizes.max(axis=1))
        expected = np.maximum(1, np.floor(sizes * scale[:, None]))
        assert np.array_equal(found, expected), limits
        theirs = GeneralizedRCNNTransform(*limits, [0.0] * 3, [1.0] * 3).eval()
        for index in rng.choice(len(sizes) - len(strips), 25, replace=False):
            resized, _ = theirs.resize(torch.empty(3, *sizes[index].tolist(), device="meta"))
            assert tuple(resized.shape[1:]) == tuple(expected[index]), "the rule is torchvision's"


@pytest.mark.slow
def test_an_image_enters_the_graph_as_it_enters_torchvisions_model():
    """The sizes are those that torchvision's own graph resizes otherwise, and some besides."""
    rng = np.random.default_rng(0)
    small = [(33, 44), (64, 64), (61, 99), (99, 61), *map(tuple, rng.integers(33, 300, (60, 2)).tolist())]
    for limits, sizes in (((800, 1333), [(375, 500), (333, 500)]), ((57, 95), small)):
        data = DataConfig(short_side=limits[0], long_side=limits[1])
        own = InputSizeTransform(data).eval()
        session = as_graph(Resizing(own), torch.rand(3, 40, 70), {1: "height", 2: "width"})
        theirs = GeneralizedRCNNTransform(*limits, own.image_mean, own.image_std).eval()
        for size in sizes:
            image = torch.rand(3, *size)
            expected, _ = theirs.resize(image)
            assert torch.equal(own.resize(image)[0], expected)
            (found,) = session.run(None, {"x": image.numpy()})
            assert found.shape == expected.shape, size
            assert np.abs(found - expected.numpy()).max() < 1e-3, size


def test_of_a_strip_one_pixel_remains():
    """Where torchvision fails with "Input and output sizes should be greater than 0"."""
    transform = InputSizeTransform(DataConfig(short_side=64, long_side=64)).eval()
    resized, _ = transform([torch.rand(3, 2, 3000), torch.rand(3, 500, 1)])
    assert resized.image_sizes == [(1, 64), (64, 1)]


@pytest.mark.slow
def test_the_command(trained: tuple[Path, TrialConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder, config = trained
    options = (prepared(config).trial_id, "--storage", str(folder), "--output", str(tmp_path))
    assert call(COMMAND, *options, "--format", "onnx", "--checkpoint", "best") == 0
    printed = capsys.readouterr().out
    assert "pictures, two sizes of each: boxes differ by at most" in printed
    graph = onnx.load(tmp_path / f"{prepared(config).trial_id}.onnx")
    assert json.loads(graph.metadata_props[0].value) == list(CATEGORIES.values())
    assert call(COMMAND, *options[:-1], str(tmp_path / "two.onnx"), "--format", "onnx", "--batch", "2") == 0
    assert "input images, float32 [2, 3, height, width]" in capsys.readouterr().out
    with pytest.raises(
        ExportError, match=r"torchvision has no detector with model\.backbone tiny; choose --format onnx"
    ):
        call(COMMAND, *options)


@pytest.mark.parametrize("suffix", [".pth", ".onnx"])
def test_an_earlier_file_is_replaced_whole_or_not_at_all(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config, file = trial(), tmp_path / f"mine{suffix}"
    file.write_bytes(b"earlier")

    def full_disk(path: Path, content: bytes) -> int:
        path.open("wb").write(content[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    monkeypatch.setattr(export, "torchvision_script", lambda *_: "")
    state = detector(config).state_dict()
    if suffix == ".pth":
        write = functools.partial(export_torchvision, config, state)
    else:
        write = functools.partial(export_onnx, plain_detector(config, state, 2))
    with pytest.raises(OSError, match="No space"):
        write(NAMES, IDS, file)
    assert [each.name for each in tmp_path.iterdir()] == [file.name]
    assert file.read_bytes() == b"earlier"


def test_what_checks_a_graph_is_asked_for_before_it_is_written(
    trained: tuple[Path, TrialConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, config = trained
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"'onnxruntime' is not installed; pip install 'dynrcnn-ray\[onnx\]'"):
        call(
            COMMAND, prepared(config).trial_id, "--storage", str(folder), "--format", "onnx", "--output", str(tmp_path)
        )
    assert list(tmp_path.iterdir()) == []
