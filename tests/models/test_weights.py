"""Pretrained weights: the package's own, whole and as recorded; files that are none, refused in a line."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.sections import ModelConfig
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.experiment.experiment import with_fields
from dynrcnn_ray.models.backbone_weights import read_backbone_weights
from dynrcnn_ray.models.backbones import build_backbone
from dynrcnn_ray.models.weights import PACKAGED, WeightsError, identify_weights, require_weights
from dynrcnn_ray.paper.paper import BESIDE, EXPERIMENTS

BACKBONES = ("tiny", "small")
RECORD = json.loads((PACKAGED / "made_by.json").read_text())


def model(**fields: str) -> ModelConfig:
    return with_fields(base_config("mini"), "model", **fields).model


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_packages_weights_load_strictly_and_are_those_of_the_record(backbone: str):
    config = model(backbone=backbone)
    assert config.weights == "shapes"
    weights = read_backbone_weights(config).state
    assert all(value.isfinite().all() and value.dtype == torch.float32 for value in weights.values())
    loaded = build_backbone(config).body.state_dict()
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], value) for name, value in weights.items())
    assert identify_weights(config) == RECORD["backbones"][backbone]["fingerprint"]


def test_the_record_says_how_they_were_made():
    assert RECORD["command"].startswith("python experiments/main.py pretrain")
    assert len(RECORD["commit"]) == 12, "made by a commit, without changes on top of it"
    files = {file.name for file in PACKAGED.iterdir()}
    assert files == {"made_by.json", *(f"{backbone}.npz" for backbone in BACKBONES)}
    assert sum(file.stat().st_size for file in PACKAGED.iterdir()) < 4_000_000


@pytest.mark.slow
def test_every_model_of_the_papers_tables_starts_from_them():
    """Tables 2, 8 and 9 among them: masks, deformable convolutions, one-stage detectors, and the deeper backbone."""
    trials = [
        trials
        for each in (*EXPERIMENTS, *BESIDE)
        for _, trials in each.trials(Trial(base_config("mini")), seeds=(0,)).values()
    ]
    models = {trial.config.model for trial in trials}
    assert {(config.name, config.backbone, config.deformable) for config in models} >= {
        ("faster_rcnn", "tiny", False),
        ("faster_rcnn", "small", True),
        ("mask_rcnn", "small", False),
        ("retinanet", "small", False),
        ("fcos", "small", False),
    }
    for config in models:
        expected = read_backbone_weights(model(backbone=config.backbone)).state
        body = build_backbone(config).body.state_dict()
        assert all(torch.equal(body[name], value) for name, value in expected.items())


def test_every_row_counts_the_weights_of_its_own_backbone():
    for experiment in (*EXPERIMENTS, *BESIDE):
        trials = experiment.trials(Trial(base_config("mini")), seeds=(0,))
        for _, trial in trials.values():
            own = RECORD["backbones"][trial.config.model.backbone]["fingerprint"]
            assert trial.inputs.weights == own
        planned = {row["trial_id"] for row in experiment.plan(Trial(base_config("mini")), (0,), "a command")}
        assert planned - {None} == trials.keys()


def test_a_file_is_known_by_its_content_and_read_no_other(tmp_path: Path):
    file = tmp_path / "mine.npz"
    file.write_bytes((PACKAGED / "tiny.npz").read_bytes())
    config = model(weights=str(file))
    began_with = identify_weights(config)
    assert began_with == identify_weights(model())
    assert read_backbone_weights(config).state.keys() == read_backbone_weights(model()).state.keys()
    file.write_bytes((PACKAGED / "small.npz").read_bytes())
    with pytest.raises(WeightsError, match="bring the same file to every node"):
        require_weights(config, began_with)
    with pytest.raises(
        WeightsError, match=r"does not fit tiny with group_norm: \d+ are too many \(layer1\.1\.[^)]* and "
    ):
        build_backbone(config)


def with_a_pickle(file: Path) -> None:
    np.savez(file, conv1=np.array([print], dtype=object))


def truncated(file: Path) -> None:
    file.write_bytes((PACKAGED / "tiny.npz").read_bytes()[:5000])


def damaged(file: Path) -> None:
    content = bytearray((PACKAGED / "tiny.npz").read_bytes())
    content[3000:3100] = bytes(100)
    file.write_bytes(content)


def of_words(file: Path) -> None:
    np.savez(file, conv1=np.array(["a word"]))


def of_one_array(file: Path) -> None:
    with file.open("wb") as opened:
        np.save(opened, np.zeros(3))


def empty(file: Path) -> None:
    file.touch()


def pointer_of_git_lfs(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2\nsize 12345\n")


@pytest.mark.parametrize("name", ["weights.npz", "weights.pth"])
def test_a_pointer_of_git_lfs_is_called_one(name: str, tmp_path: Path):
    pointer_of_git_lfs(tmp_path / name)
    with pytest.raises(WeightsError, match=r"is a pointer of Git LFS, not the file; fetch that with `git lfs pull`"):
        read_backbone_weights(model(weights=str(tmp_path / name)))


@pytest.mark.parametrize("make", [with_a_pickle, truncated, damaged, of_words, of_one_array, empty])
def test_what_is_no_file_of_weights_is_refused_in_a_line(make: Callable[[Path], None], tmp_path: Path):
    file = tmp_path / "weights.npz"
    make(file)
    with pytest.raises(WeightsError, match="is no file of weights") as refused:
        read_backbone_weights(model(weights=str(file)))
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_the_identity_needs_no_torch_and_reading_no_torchvision():
    code = (
        "import sys; from dynrcnn_ray.models.weights import identify_weights\n"
        "from dynrcnn_ray.config.scales import base_config\n"
        "config = base_config('mini').model; assert identify_weights(config); assert 'torch' not in sys.modules\n"
        "from dynrcnn_ray.models.backbone_weights import read_backbone_weights\n"
        "assert read_backbone_weights(config).state; assert 'torchvision' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
