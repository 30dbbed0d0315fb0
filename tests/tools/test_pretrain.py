"""The command `pretrain` at scale smoke: what it makes, and trials that start from it."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from dynrcnn_ray.config.sections import PRETRAINING_SEED
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.prepare import prepare_data
from dynrcnn_ray.experiment.experiment import with_fields
from dynrcnn_ray.models.backbone_weights import read_backbone_weights
from dynrcnn_ray.models.weights import identify_weights
from dynrcnn_ray.tools.pretrain.command import BACKBONES, PretrainOptions
from dynrcnn_ray.tools.pretrain.pretrain import _pretrain, pretraining
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.state import TrainingState, build_training_state
from experiments.main import main
from tests.prepared import prepared
from tests.trial_events import run_to_end


@pytest.fixture(scope="module")
def made(cache_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache_home))
        assert main(["pretrain", "--scale", "smoke", "--steps", "4", "--output", str(folder)]) == 0
    return folder


def from_weights(trial: TrialConfig, file: Path) -> TrialConfig:
    return with_fields(trial, "model", backbone=file.stem, weights=str(file))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_its_weights_are_those_of_the_record_and_a_trial_trains_from_them(
    made: Path, smoke: TrialConfig, backbone: str
):
    trial = from_weights(smoke, made / f"{backbone}.npz")
    record = json.loads((made / "made_by.json").read_text())
    assert record["backbones"][backbone]["fingerprint"] == identify_weights(trial.model)
    assert prepared(trial).trial_id != prepared(smoke).trial_id

    weights = read_backbone_weights(trial.model).state
    start = build_training_state(prepared(trial), 6, Worker()).model.get_submodule("backbone.body").state_dict()
    assert all(torch.equal(start[name], value) for name, value in weights.items())

    ends: list[TrainingState] = []
    outcome = run_to_end(trial, Worker(), on_checkpoint=lambda state, is_best: ends.append(state))
    assert outcome.history[-1]["step"] == 10
    end = ends[-1].model.get_submodule("backbone.body").state_dict()
    assert not any(torch.equal(end[name], value) for name, value in weights.items()), "every stage trains"


@pytest.mark.slow
def test_making_one_again_gives_the_same_weights(made: Path, cache_home: Path, tmp_path: Path, monkeypatch):
    """In this process, which has trained others."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    config = pretraining(PretrainOptions(scale="smoke", steps=4), "tiny")
    again = _pretrain(Trial(config, prepare_data(config.data).inputs), tmp_path)
    assert again == json.loads((made / "made_by.json").read_text())["backbones"]["tiny"]


def test_no_trial_sees_its_images(smoke: TrialConfig, cache_home: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    theirs = prepare_data(pretraining(PretrainOptions(scale="smoke"), "tiny").data)
    pictures = [
        {
            hashlib.sha256(file.read_bytes()).digest()
            for split in ("train", "val")
            for file in Path(root, split).iterdir()
        }
        for root in (theirs.root, smoke.data.root)
    ]
    assert len(pictures[0]) == len(pictures[1]) == 16 + 8
    assert not pictures[0] & pictures[1]


@pytest.mark.parametrize("weights", ["shapes", "a file.npz"])
def test_a_trial_on_its_images_is_refused(weights: str, capsys):
    seed = str(PRETRAINING_SEED)
    arguments = ["table3", "--dry-run", "--data.shapes.seed", seed, "--model.weights"]
    assert main([*arguments, weights]) == 2
    assert capsys.readouterr().err.startswith(f"error: data.shapes.seed: {seed} makes the images on which pretrained")
    assert main([*arguments, "none"]) == 0


def test_a_wrong_number_of_steps_is_refused(capsys):
    assert main(["pretrain", "--steps", "-1"]) == 2
    assert "--steps: -1 must be 0 or greater" in capsys.readouterr().err
