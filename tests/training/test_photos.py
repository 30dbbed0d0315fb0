"""A practitioner's main path: photographs of one's own, from a detector that was trained on COCO."""

from pathlib import Path

import pytest
import torch
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from dynrcnn_ray.cli.program import program
from dynrcnn_ray.config import Trial, TrialConfig
from dynrcnn_ray.config.validation import from_yaml, to_yaml
from dynrcnn_ray.execution.starting_weights import require_starting_weights
from dynrcnn_ray.models.detector_weights import read_detector_weights
from dynrcnn_ray.models.weights import WeightsError
from dynrcnn_ray.options.parsing import parse
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.training.collectives import Worker
from tests.prepared import prepared
from tests.trial_events import run_to_end


def described(*arguments: str) -> TrialConfig:
    _, options = parse(program(), ["train", "--scale", "photos", *arguments])
    return options.config()


@pytest.fixture(scope="module")
def coco_shaped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What torchvision's file holds, by names and shapes; the numbers are random."""
    torch.manual_seed(0)
    state = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    file = tmp_path_factory.mktemp("weights") / "coco.pth"
    # Half the bytes: only what has changed of it is looked at.
    torch.save({name: value.half() for name, value in state.items() if "num_batches" not in name}, file)
    return file


def test_the_scale_is_the_papers_detector_from_cocos_weights():
    config = described("--data.root", "somewhere")
    assert config.model.detector_weights == "coco"
    assert (config.model.backbone, config.model.rois_per_image, config.iou_top_k) == ("resnet50", 512, 75)
    # The paper's 0.02 for 16 images.
    assert config.train.learning_rate / config.train.global_batch == 0.02 / 16


def test_sizes_and_steps_are_in_the_id_and_in_yaml(smoke: TrialConfig, tmp_path: Path, coco_shaped: Path):
    flags = ("--data.root", smoke.data.root, "--model.detector-weights", str(coco_shaped))
    sized = ("--data.short-side", "480", "--data.long-side", "800", "--train.steps", "1600")
    config = described(*flags, *sized)
    assert "short_side: 480" in to_yaml(config)
    assert "steps: 1600" in to_yaml(config)
    assert from_yaml(to_yaml(config)) == config
    assert prepared(config).trial_id == prepared(described(*sized, *flags)).trial_id
    assert prepared(config).trial_id != prepared(described(*flags)).trial_id


@pytest.mark.slow
def test_fine_tuning_takes_over_all_but_the_classes(smoke: TrialConfig, tmp_path: Path, coco_shaped: Path):
    config = described(
        *("--data.root", smoke.data.root, "--model.detector-weights", str(coco_shaped), "--num-workers", "1"),
        *("--data.short-side", "64", "--data.long-side", "64", "--train.steps", "1"),
    )
    trial: Trial = prepared(config)
    require_starting_weights(trial, ResultStore.open(tmp_path))
    notes: list[str] = []
    weights = read_detector_weights(trial.config.model, trial.inputs.detector_weights)
    outcome = run_to_end(trial, Worker(), detector_weights=weights, on_note=notes.append)
    (note,) = notes
    # All but the box predictor's two layers, whose classes are COCO's.
    assert note.startswith(f"starts from file {coco_shaped}: 291 of 295 tensors taken; new: roi_heads.box_predictor.")
    assert "WARNING" not in note
    assert "AP" in outcome.metrics
    narrow = described(
        "--data.root", smoke.data.root, "--model.detector-weights", str(coco_shaped), "--model.fpn-channels", "128"
    )
    with pytest.raises(WeightsError, match=r"the FPN and the RPN and the box head of .* --model.fpn-channels 256"):
        require_starting_weights(prepared(narrow), ResultStore.open(tmp_path))
