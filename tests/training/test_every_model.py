"""Every detector and every backbone, through the engine: trains, evaluates, and resumes to the same weights."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import validate
from dynrcnn_ray.store.schemas import METRICS
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.state import TrainingState
from tests.trial_events import run_to_end

DETECTORS = ("faster_rcnn", "mask_rcnn", "cascade_rcnn", "cascade_mask_rcnn", "retinanet", "fcos")
BACKBONES = ("tiny", "small", "resnet18", "resnet34", "resnet50", "resnet101")


def of_model(smoke: TrialConfig, name: str, backbone: str, deformable: bool) -> TrialConfig:
    """Two steps of two images, with few RoIs and few detections."""
    dynamic = name in ("faster_rcnn", "mask_rcnn")
    few = {"rois_per_image": 32, "rpn_post_nms": 50, "detections_per_image": 10}
    return validate(
        dataclasses.replace(
            smoke,
            model=dataclasses.replace(smoke.model, name=name, backbone=backbone, deformable=deformable, **few),
            dynamic=dataclasses.replace(smoke.dynamic, dla=dynamic, dsl=dynamic),
            train=dataclasses.replace(smoke.train, steps=2, global_batch=2, reference_batch=2),
            run=dataclasses.replace(smoke.run, log_every=1, checkpoint_every=1),
        )
    )


def trains_evaluates_and_resumes(config: TrialConfig, folder: Path) -> None:
    final_weights: list[dict[str, Tensor]] = []

    def keep(state: TrainingState, _is_best: bool) -> None:
        if state.step == 1:
            torch.save(state.state_dict(), folder / "state.pt")
        else:
            final_weights.append({name: value.clone() for name, value in state.model.state_dict().items()})

    whole = run_to_end(config, Worker(), on_checkpoint=keep)
    after_one_step = torch.load(folder / "state.pt", weights_only=True)
    resumed = run_to_end(config, Worker(), checkpoint=after_one_step, on_checkpoint=keep)

    expected = set(METRICS) | ({f"segm_{name}" for name in METRICS} if config.model.has_masks else set())
    assert whole.metrics.keys() == expected
    assert all(0 <= whole.metrics[name] <= 100 for name in expected if name.endswith("AP"))
    assert [row["step"] for row in whole.history] == [1, 2]
    one_stage = config.model.is_one_stage
    assert all(
        np.isfinite(value).all() or (one_stage and not name.startswith("loss"))
        for row in whole.history
        for name, value in row.items()
    )
    assert ("loss_mask" in whole.history[0]) == config.model.has_masks
    last, last_resumed = final_weights
    heads = ("head.classification_head.", "head.regression_head.") if one_stage else ("rpn.", "roi_heads.")
    for part in ("backbone.body.layer4.", "backbone.fpn.", *heads):
        names = [name for name in last if name.startswith(part)]
        assert any(not torch.equal(last[name], after_one_step["model"][name]) for name in names), f"{part} trains"
    assert resumed.metrics == whole.metrics
    for name, value in last.items():
        assert torch.equal(value, last_resumed[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("deformable", [False, True], ids=["plain", "deformable"])
def test_every_detector(smoke: TrialConfig, tmp_path: Path, name: str, deformable: bool):
    trains_evaluates_and_resumes(of_model(smoke, name, "tiny", deformable), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "name"),
    [
        *[(backbone, "mask_rcnn") for backbone in BACKBONES[1:]],
        # One with each kind of residual block: the one-stage detectors' further levels start from its width.
        *[(backbone, "fcos") for backbone in ("resnet18", "resnet50")],
    ],
)
def test_every_backbone_in_both_kinds_of_detector(smoke: TrialConfig, tmp_path: Path, backbone: str, name: str):
    """A detector sees nothing of a backbone but the pyramid's maps."""
    trains_evaluates_and_resumes(of_model(smoke, name, backbone, deformable=False), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cascade_mask_rcnn", "retinanet"])
def test_deformable_bottlenecks_in_both_kinds_of_detector(smoke: TrialConfig, tmp_path: Path, name: str):
    trains_evaluates_and_resumes(of_model(smoke, name, "resnet50", deformable=True), tmp_path)
