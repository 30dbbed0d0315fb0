import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import profile
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.sections import DynamicConfig, ModelConfig
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.dynamic.state import DynamicTrainingState
from dynrcnn_ray.models.backbones import build_backbone
from dynrcnn_ray.models.detector import build_model, build_torchvision_model
from dynrcnn_ray.training.device import on_device

NUM_CLASSES = 3
HOST_SYNCS = {
    "aten::_local_scalar_dense",
    "aten::item",
    "aten::is_nonzero",
    "aten::nonzero",
    "aten::masked_select",
}
"""Operators whose result the host must wait for; a choice by a mask is a `nonzero`."""

Batch = tuple[list[Tensor], list[dict[str, Tensor]]]


def config(**dynamic: Any) -> TrialConfig:
    base = base_config("smoke")
    train = dataclasses.replace(base.train, shards=1)  # A batch of a test is one shard's.
    return dataclasses.replace(base, train=train, dynamic=dataclasses.replace(base.dynamic, **dynamic))


def model_and_state(trial: TrialConfig, device: torch.device | None = None) -> tuple[FasterRCNN, DynamicTrainingState]:
    """Of one shard: a test's batch goes through the model at once."""
    trial = dataclasses.replace(trial, train=dataclasses.replace(trial.train, shards=1))
    torch.manual_seed(0)
    device = device or torch.device("cpu")
    state = DynamicTrainingState(trial, device=device)
    return on_device(build_model(trial, NUM_CLASSES, state), device), state


def random_batch(seed: int, objects: tuple[int, ...] = (3, 1, 4, 2)) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    targets = []
    for count in objects:
        corners = torch.rand(count, 2, generator=generator) * 30
        sizes = torch.rand(count, 2, generator=generator) * 25 + 8
        labels = torch.randint(1, NUM_CLASSES + 1, (count,), generator=generator)
        targets.append({"boxes": torch.cat([corners, corners + sizes], dim=1), "labels": labels})
    return [torch.rand(3, 64, 64, generator=generator) for _ in objects], targets


def train_step(model: FasterRCNN, state: DynamicTrainingState, batch: Batch, lr: float = 0.01) -> dict[str, Tensor]:
    losses = model(*batch)
    torch.stack(list(losses.values())).sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= lr * parameter.grad
                parameter.grad = None
    state.end_step()
    return losses


def test_trained_weights_load_into_plain_torchvision_and_detect_the_same():
    """With the paper's anchors, all else is torchvision's default: no class of ours is in its heads."""
    base = config()
    settings = dataclasses.replace(base.model, anchor_sizes=ModelConfig().anchor_sizes, score_threshold=0.0)
    trial = dataclasses.replace(base, model=settings)
    model, state = model_and_state(trial)
    for step in range(4):
        train_step(model, state, random_batch(step))

    channels = settings.fpn_channels * 7**2
    plain = FasterRCNN(
        build_backbone(settings),
        min_size=trial.data.short_side,
        max_size=trial.data.long_side,
        rpn_pre_nms_top_n_test=settings.rpn_pre_nms_test,
        rpn_post_nms_top_n_test=settings.rpn_post_nms,
        rpn_nms_thresh=settings.rpn_nms_iou,
        box_head=TwoMLPHead(channels, settings.head_channels),
        box_predictor=FastRCNNPredictor(settings.head_channels, NUM_CLASSES + 1),
        box_score_thresh=settings.score_threshold,
    )
    heads = [*plain.rpn.modules(), *plain.roi_heads.modules(), plain.transform]
    assert not any(type(part).__module__.startswith("dynrcnn_ray") for part in heads)
    plain.load_state_dict(model.state_dict(), strict=True)

    # RoIs are pooled by other sums: in float64 no rounding chooses another box.
    model.double().eval(), plain.double().eval()
    images = [image.double() for image in random_batch(9)[0]]
    with torch.inference_mode():
        ours, theirs = model(images), plain(images)
    assert sum(len(output["boxes"]) for output in theirs) > 0
    for our, their in zip(ours, theirs, strict=True):
        for name in ("boxes", "labels", "scores"):
            torch.testing.assert_close(our[name], their[name])


def test_in_testing_the_channels_lie_last_from_the_images_to_the_pyramid():
    """The layout that is fast on a CPU; no layer on the way brings back the other one."""
    model, _ = model_and_state(config())
    images, _ = random_batch(0)
    layout = {"memory_format": torch.channels_last}
    with torch.inference_mode():
        batch = model.eval().transform(images)[0].tensors
        assert batch.is_contiguous(**layout)
        assert all(level.is_contiguous(**layout) for level in model.backbone(batch).values())
    assert not model.train().transform(images)[0].tensors.is_contiguous(**layout)


def test_torchvision_weights_load_into_ours():
    model, _ = model_and_state(config())
    model.load_state_dict(build_torchvision_model(config(), NUM_CLASSES).state_dict(), strict=True)


@pytest.mark.usefixtures("_float64")
def test_with_everything_fixed_the_losses_are_torchvisions():
    """DLA and DSL off, IoU 0.5 and torchvision's hard-coded beta: nothing of the loss is ours any more."""
    trial = config(dla=False, dsl=False, fixed_iou=0.5, fixed_beta=1 / 9)
    model, _ = model_and_state(trial)
    plain = build_torchvision_model(trial, NUM_CLASSES)
    plain.load_state_dict(model.state_dict())
    for objects in [(3, 1, 4, 2), (0, 2, 0, 1), (0, 0)]:
        batch = random_batch(1, objects)
        torch.manual_seed(5)
        ours = model(*batch)
        torch.manual_seed(5)
        theirs = plain(*batch)
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value)


def test_threshold_and_beta_in_force_change_the_training():
    batch = random_batch(2)
    positives, box_losses = [], []
    for iou, beta in [(0.3, 1.0), (0.9, 1.0), (0.3, 0.1)]:
        model, _ = model_and_state(config(dla=False, dsl=False, fixed_iou=iou, fixed_beta=beta))
        torch.manual_seed(5)
        box_losses.append(float(model(*batch)["loss_box_reg"].detach()))
        positives.append(sum(int((image.labels > 0).sum()) for image in model.roi_heads.last_assignment))
    assert positives[0] > positives[1]
    assert box_losses[2] > box_losses[0]


def test_ground_truths_are_among_the_proposals():
    model, _ = model_and_state(config())
    batch = random_batch(3)
    model(*batch)
    for image, target in zip(model.roi_heads.last_assignment, batch[1], strict=True):
        count = len(target["boxes"])
        torch.testing.assert_close(image.proposals[-count:], image.gt_boxes)
        assert (image.match.max_iou[-count:] > 0.999).all()


@pytest.mark.slow
def test_a_step_makes_no_more_host_syncs_than_without_the_dynamic_parts_or_than_torchvision():
    def host_syncs(dynamic: dict[str, Any] | None) -> int:
        trial = config(**(dynamic or {}))
        model, state = model_and_state(trial)
        if dynamic is None:
            model = build_torchvision_model(trial, NUM_CLASSES)
        for step in range(2):
            train_step(model, state, random_batch(step))
        torch.manual_seed(0)
        with profile() as recorded:
            train_step(model, state, random_batch(7))
        return sum(event.name in HOST_SYNCS for event in recorded.events())

    torchvisions = host_syncs(None)
    assert torchvisions > 0, "the profiler sees torchvision's own"
    off = host_syncs({"dla": False, "dsl": False})
    for convention in ("paper", "mmdetection", "released"):
        # An update falls on every step, so that it is counted as well.
        on = host_syncs({"convention": convention, "update_interval": 1})
        assert on <= off <= torchvisions


def test_initial_weights_are_the_papers():
    trial = dataclasses.replace(
        base_config("smoke"), model=dataclasses.replace(base_config("smoke").model, head_channels=1024)
    )
    model, _ = model_and_state(trial)
    head, predictor = model.roi_heads.box_head, model.roi_heads.box_predictor
    assert predictor.cls_score.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert predictor.bbox_pred.weight.std().item() == pytest.approx(0.001, rel=0.1)
    for layer in (head.fc6, head.fc7):
        bound = (3 / layer.in_features) ** 0.5
        assert layer.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
        assert not layer.bias.any()
    assert not predictor.cls_score.bias.any()
    assert not predictor.bbox_pred.bias.any()


def test_rpn_is_set_up_as_the_paper_does():
    trial = TrialConfig(model=ModelConfig(weights="none"))
    model, _ = model_and_state(trial)
    assert model.rpn.nms_thresh == 0.85
    assert model.rpn._pre_nms_top_n == {"training": 2000, "testing": 1000}
    assert model.rpn._post_nms_top_n == {"training": 1000, "testing": 1000}
    assert model.roi_heads.box_coder.weights == (10.0, 10.0, 5.0, 5.0)
    assert model.roi_heads.fg_bg_sampler.batch_size_per_image == 512


@pytest.mark.parametrize("backbone", ["tiny", "resnet18", "resnet34", "resnet50", "resnet101"])
def test_every_backbone_builds_and_freezes_its_lower_stages(backbone: str):
    base = base_config("smoke")
    norm = "group_norm" if backbone == "tiny" else "frozen_batch_norm"
    trial = dataclasses.replace(
        base, model=dataclasses.replace(base.model, backbone=backbone, norm=norm, trainable_layers=3)
    )
    model, _ = model_and_state(trial)
    trains = {name.split(".")[2] for name, value in model.named_parameters() if "body" in name and value.requires_grad}
    assert trains == {"layer2", "layer3", "layer4"}
    losses = model(*random_batch(0, (1,)))
    assert all(loss.isfinite() for loss in losses.values())


def test_backbone_weights_come_from_a_file_of_torchvisions_format(tmp_path):
    from torchvision.models import resnet18

    torch.manual_seed(3)
    source = resnet18(weights=None)
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    base = base_config("smoke")
    settings = dataclasses.replace(
        base.model, backbone="resnet18", norm="frozen_batch_norm", weights=str(tmp_path / "resnet18.pth")
    )
    model, _ = model_and_state(dataclasses.replace(base, model=settings))
    assert torch.equal(model.backbone.body.layer3[0].conv1.weight, source.layer3[0].conv1.weight)

    with pytest.raises(ValueError, match="does not fit resnet34"):
        model_and_state(dataclasses.replace(base, model=dataclasses.replace(settings, backbone="resnet34")))
    with pytest.raises(ValueError, match="is no file"):
        model_and_state(dataclasses.replace(base, model=dataclasses.replace(settings, weights="nowhere.pth")))


def test_the_dynamic_state_is_in_no_state_dict():
    model, _ = model_and_state(TrialConfig(dynamic=DynamicConfig(), model=base_config("smoke").model))
    assert model.state_dict().keys() == build_torchvision_model(base_config("smoke"), NUM_CLASSES).state_dict().keys()


def test_the_sizes_of_pyramid_and_proposals_are_the_configurations():
    base = base_config("smoke")
    settings = dataclasses.replace(
        base.model, fpn_channels=48, rpn_pre_nms_train=70, rpn_pre_nms_test=60, rpn_post_nms=50, rpn_samples=40
    )
    model = build_torchvision_model(dataclasses.replace(base, model=settings), NUM_CLASSES)
    rpn: Any = model.rpn
    assert model.backbone.out_channels == 48
    assert rpn._pre_nms_top_n == {"training": 70, "testing": 60}
    assert rpn._post_nms_top_n == {"training": 50, "testing": 50}
    assert rpn.fg_bg_sampler.batch_size_per_image == 40
