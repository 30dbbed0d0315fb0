"""Modulated deformable convolutions: where they sample, how much, where they stand and that they learn."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models
from torchvision.models.detection import FasterRCNN

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.sections import ModelConfig
from dynrcnn_ray.dynamic.state import DynamicTrainingState
from dynrcnn_ray.models.backbones import build_backbone
from dynrcnn_ray.models.deformable import ModulatedDeformConv2d
from tests.models.test_detector import model_and_state, random_batch, train_step

pytestmark = pytest.mark.usefixtures("_float64")
TAPS = 9


def convolutions(stride: int) -> tuple[nn.Conv2d, ModulatedDeformConv2d]:
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 6, kernel_size=3, stride=stride, padding=1, bias=False)
    return plain, ModulatedDeformConv2d(plain)


def deformable_names(backbone: nn.Module) -> set[str]:
    return {name for name, module in backbone.named_modules() if isinstance(module, ModulatedDeformConv2d)}


def deformable_detector() -> tuple[FasterRCNN, DynamicTrainingState]:
    base = base_config("smoke")
    return model_and_state(dataclasses.replace(base, model=dataclasses.replace(base.model, deformable=True)))


@pytest.mark.parametrize("stride", [1, 2])
def test_at_first_it_is_half_the_plain_convolution(stride: int):
    plain, deformable = convolutions(stride)
    features = torch.rand(2, 4, 9, 12)
    torch.testing.assert_close(deformable(features), plain(features) / 2)


@pytest.mark.parametrize("stride", [1, 2])
def test_offsets_of_one_pixel_shift_the_convolution(stride: int):
    """Offsets come as (y, x) of each tap; one row further down, and two columns to the left."""
    plain, deformable = convolutions(stride)
    features = torch.rand(2, 4, 9, 12)
    with torch.no_grad():
        deformable.offset.bias[0 : 2 * TAPS : 2] = 1
        deformable.offset.bias[1 : 2 * TAPS : 2] = -2
        deformable.offset.bias[2 * TAPS :] = 100  # a mask of one
    # The plain convolution's zero padding of 1 on each side, moved along.
    shifted = F.pad(features, (1 + 2, 1 - 2, 1 - 1, 1 + 1))
    torch.testing.assert_close(deformable(features), F.conv2d(shifted, plain.weight, stride=stride))


def test_each_tap_has_its_own_weight():
    """A mask that shuts all taps but the centre leaves a 1 x 1 convolution."""
    plain, deformable = convolutions(1)
    features = torch.rand(2, 4, 9, 12)
    with torch.no_grad():
        deformable.offset.bias[2 * TAPS :] = -100
        deformable.offset.bias[2 * TAPS + 4] = 100
    torch.testing.assert_close(deformable(features), F.conv2d(features, plain.weight[:, :, 1:2, 1:2]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "blocks"), [("tiny", (1, 1, 1)), ("resnet18", (2, 2, 2)), ("resnet50", (4, 6, 3))]
)
def test_c3_to_c5_are_deformable_and_nothing_else(backbone: str, blocks: tuple[int, ...]):
    norm = "group_norm"
    plain, deformable = (
        build_backbone(ModelConfig(backbone=backbone, norm=norm, weights="none", deformable=deformable))
        for deformable in (False, True)
    )
    expected = {
        f"body.layer{stage}.{block}.conv2"
        for stage, count in zip((2, 3, 4), blocks, strict=True)
        for block in range(count)
    }
    assert deformable_names(plain) == set()
    assert deformable_names(deformable) == expected
    images = torch.rand(1, 3, 64, 64)
    assert [level.shape for level in deformable(images).values()] == [level.shape for level in plain(images).values()]


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_torchvisions_weights_fit_but_for_the_offset_layers(backbone: str):
    torch.manual_seed(1)
    source = models.get_model(backbone, weights=None)
    body = build_backbone(ModelConfig(backbone=backbone, weights="none", deformable=True)).body
    keys = body.load_state_dict(source.state_dict(), strict=False)
    layers = deformable_names(body)
    assert set(keys.missing_keys) == {f"{layer}.offset.{value}" for layer in layers for value in ("weight", "bias")}
    assert set(keys.unexpected_keys) == {"fc.weight", "fc.bias"}
    assert torch.equal(body.layer3[1].conv2.weight, source.layer3[1].conv2.weight)


@pytest.mark.slow
def test_backbone_weights_from_a_file_reach_the_deformable_layers(tmp_path):
    torch.manual_seed(2)
    source = models.resnet18(weights=None)
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    settings = ModelConfig(backbone="resnet18", weights=str(tmp_path / "resnet18.pth"), deformable=True)
    convolution = build_backbone(settings).body.layer4[0].conv2
    assert torch.equal(convolution.weight, source.layer4[0].conv2.weight)
    assert not convolution.offset.weight.any()


def test_the_offset_layers_train():
    model, state = deformable_detector()
    batch = random_batch(0)
    offsets = {name: value for name, value in model.named_parameters() if ".offset." in name}
    assert len(offsets) == 2 * 3
    torch.stack(list(model(*batch).values())).sum().backward()
    for name, value in offsets.items():
        coordinates, mask = value.grad[: 2 * TAPS], value.grad[2 * TAPS :]
        assert coordinates.any(), name
        assert mask.any(), name
    train_step(model, state, batch)
    assert all(value.any() for value in offsets.values()), "they started at zero"
