"""A detector that somebody sends as a file is used without the store that it comes from."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.models.detector_file import detector_file
from dynrcnn_ray.models.weights import WeightsError
from dynrcnn_ray.tools.export.command import COMMAND as EXPORT
from dynrcnn_ray.tools.export.export import export_torchvision, plain_detector
from dynrcnn_ray.tools.predict.predictor import Predictor
from dynrcnn_ray.tools.trained_trial import TrainedDetector
from dynrcnn_ray.tools.used_detector import used_detector
from tests.cli.calls import call
from tests.tools.test_export import IDS, NAMES, detector


@pytest.fixture(scope="module")
def config() -> TrialConfig:
    """A trial whose detector torchvision has, on data of a colleague's machine."""
    base = base_config("smoke")
    model = dataclasses.replace(base.model, backbone="resnet18", score_threshold=0.0, detections_per_image=20)
    data = dataclasses.replace(base.data, root="/home/colleague/photos", short_side=80, long_side=120)
    return dataclasses.replace(base, data=data, model=model)


@pytest.fixture(scope="module")
def state(config: TrialConfig) -> dict[str, torch.Tensor]:
    return detector(config).state_dict()


@pytest.fixture(scope="module")
def file(config: TrialConfig, state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sent") / "mine.pth"
    export_torchvision(config, state, NAMES, IDS, file)
    return file


def test_it_detects_as_where_it_comes_from(config: TrialConfig, state: dict[str, torch.Tensor], file: Path):
    name, trial, checkpoint, names = used_detector(TrainedDetector(weights=str(file)))
    assert name == "mine"
    assert names == dict(zip(IDS, NAMES, strict=True))
    pixels = np.random.default_rng(0).integers(0, 255, (100, 70, 3), dtype=np.uint8)
    predictor = Predictor(trial, checkpoint, trial.training_id, IDS, torch.device("cpu"))
    found = predictor(pixels, min_score=0.0)
    image = torch.from_numpy(pixels).permute(2, 0, 1).float().div(255)
    with torch.inference_mode():
        (expected,) = plain_detector(config, state, 2)([image])
    assert len(found.scores) > 5
    np.testing.assert_allclose(found.scores, expected["scores"].numpy(), atol=1e-6)
    np.testing.assert_allclose(found.boxes, expected["boxes"].numpy(), atol=1e-4)
    assert found.category_ids.tolist() == [IDS[label - 1] for label in expected["labels"].tolist()]


def test_it_tells_nothing_of_the_machine_that_it_was_trained_on(file: Path):
    assert b"colleague" not in file.read_bytes()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"config": None}, "does not say how its detector is built; give a file that `export --format torchvision`"),
        ({"config": "model: {gone: 1}"}, "is of another release: model.gone: unknown field; export it with this one"),
        ({"class_names": ["cat"]}, "its class_names and category_ids must be as many names and ascending numbers"),
        ({"category_ids": [7, 3]}, "its class_names and category_ids must be as many names and ascending numbers"),
        ({"model": {"a": torch.zeros(2)}}, "the checkpoint does not fit this training's model"),
    ],
    ids=str,
)
def test_a_file_that_cannot_be_used_is_refused_in_a_line(file: Path, tmp_path: Path, changes: dict, told: str):
    content = torch.load(file, weights_only=True) | changes
    torch.save({name: value for name, value in content.items() if value is not None}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=told) as refused:
        used_detector(TrainedDetector(weights=str(tmp_path / "a.pth")))
    assert str(refused.value).startswith("--weights: ")
    assert "\n" not in str(refused.value)


def test_what_is_no_file_of_weights_is_refused(tmp_path: Path):
    (tmp_path / "a.pth").write_text("nothing")
    with pytest.raises(WeightsError, match=r"--weights: '.*a\.pth' is no file of weights"):
        used_detector(TrainedDetector(weights=str(tmp_path / "a.pth")))


@pytest.mark.slow
def test_it_becomes_a_graph_that_is_run_on_generated_pictures(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert call(EXPORT, "--weights", str(file), "--format", "onnx", "--output", str(tmp_path)) == 0
    assert "Beside PyTorch on 6 generated pictures, two sizes of each: boxes differ by" in capsys.readouterr().out
    graph = onnx.load(tmp_path / "mine.onnx")
    assert {entry.key: json.loads(entry.value) for entry in graph.metadata_props} == {
        "class_names": NAMES,
        "category_ids": IDS,
    }


def test_the_size_of_its_input_is_that_of_the_trial(config: TrialConfig, file: Path):
    of_file = used_detector(TrainedDetector(weights=str(file))).trial.config
    assert (of_file.data.short_side, of_file.data.long_side) == (80, 120)
    assert of_file.model == dataclasses.replace(config.model, weights="none")
    assert detector_file(of_file, {}, NAMES, IDS) == detector_file(config, {}, NAMES, IDS)
