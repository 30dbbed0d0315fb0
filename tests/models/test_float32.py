"""Mixed precision: boxes, anchors and statistics stay float32, and the frozen norm keeps what it is given."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.ops import FrozenBatchNorm2d

from dynrcnn_ray.config.sections import ModelConfig
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.models.backbones import SameTypeFrozenBatchNorm2d, build_backbone
from tests.models.test_cascade import trial
from tests.models.test_detector import config, model_and_state, random_batch

DETECTORS = ("faster_rcnn", "cascade_rcnn", "retinanet", "fcos")
WIDTH = 800


def wide(name: str) -> TrialConfig:
    """Of images that are 800 pixels wide: bfloat16 has the multiples of 4 alone from 512 on."""
    base = trial(name, score_threshold=0.0)
    return dataclasses.replace(base, data=dataclasses.replace(base.data, short_side=64, long_side=WIDTH))


def in_bfloat16() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16)


def outputs_of(module: nn.Module) -> list[Tensor]:
    """Fills with every tensor that the module gives."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: object) -> None:
        for value in output.values() if isinstance(output, dict) else output:
            seen.extend([value] if isinstance(value, Tensor) else value)

    module.register_forward_hook(keep)
    return seen


def heads_of(model: FasterRCNN | RetinaNet | FCOS) -> list[nn.Module]:
    if not isinstance(model, FasterRCNN):
        return [model.head]
    predictor = model.roi_heads.box_predictor
    return [model.rpn.head, *(predictor if isinstance(predictor, nn.ModuleList) else [predictor])]


@pytest.mark.parametrize("name", DETECTORS)
def test_anchors_predictions_and_detections_are_not_rounded(name: str):
    model, _ = model_and_state(wide(name))
    generator = model.rpn.anchor_generator if isinstance(model, FasterRCNN) else model.anchor_generator
    anchors, predictions = outputs_of(generator), [outputs_of(head) for head in heads_of(model)]
    images = [torch.rand(3, 64, WIDTH, generator=torch.Generator().manual_seed(0))]
    with torch.inference_mode():
        model.eval()(images)
        before = len(anchors)
        with in_bfloat16():
            (output,) = model(images)
    for exact, mixed in zip(anchors[:before], anchors[before:], strict=True):
        assert torch.equal(exact, mixed)
        assert exact.dtype == mixed.dtype
    for values in predictions:
        assert values
        assert {value.dtype for value in values} == {torch.float32}
    right = output["boxes"][:, ::2]
    assert (right[right > 512] % 4 != 0).sum() > 10


def test_the_statistics_are_float32():
    model, state = model_and_state(config(update_interval=1))
    with in_bfloat16():
        losses = model(*random_batch(4))
    image = model.roi_heads.last_assignment[0]
    assert image.proposals.dtype == image.match.max_iou.dtype == torch.float32
    assert not torch.equal(image.proposals, image.proposals.bfloat16().float())
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    state.end_step()
    assert state.iou_now.dtype == torch.float32


def test_the_frozen_norm_is_torchvisions_in_the_type_of_its_input():
    torch.manual_seed(0)
    theirs, ours = FrozenBatchNorm2d(8), SameTypeFrozenBatchNorm2d(8)
    theirs.load_state_dict({name: torch.rand_like(value) + 0.5 for name, value in theirs.state_dict().items()})
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    features = torch.randn(2, 8, 5, 5)
    assert torch.equal(ours(features), theirs(features))
    half = features.bfloat16()
    assert torch.equal(ours(half), theirs(half).bfloat16())
    with torch.inference_mode():  # One operation, within rounding.
        torch.testing.assert_close(ours(features), theirs(features))
        torch.testing.assert_close(ours(half), theirs(half).bfloat16())


def kept_for_backward(backbone: nn.Module, images: Tensor) -> int:
    """Bytes of the activations that autograd keeps. No weight has the batch's number of images as its first size."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.ndim == 4 and len(tensor) == len(images) and tensor.is_floating_point():
            kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = backbone(images)
    assert all(level.requires_grad for level in outputs.values())
    return sum(tensor.nbytes for tensor in kept.values())


@pytest.mark.slow
def test_bfloat16_keeps_half_of_what_float32_keeps_for_backward():
    backbone = build_backbone(ModelConfig(weights="none"))
    images = torch.rand(3, 3, 64, 96)
    in_float32 = kept_for_backward(backbone, images)
    with in_bfloat16():
        assert 2 * kept_for_backward(backbone, images) == in_float32
    assert in_float32 > 0
