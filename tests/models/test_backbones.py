"""The stride in the first 1x1 of a bottleneck, and the weights that were trained with it."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from dynrcnn_ray.config.sections import ModelConfig
from dynrcnn_ray.models.backbone_weights import read_backbone_weights
from dynrcnn_ray.models.backbones import build_backbone

MSRA = Path(__file__).resolve().parents[3] / "shared" / "weights" / "resnet50_msra_fp16.pth"
DEFORMABLE = pytest.mark.parametrize("deformable", [False, True], ids=["plain", "deformable"])


def strides(block: nn.Module) -> list[tuple[int, int]]:
    return [convolution.stride for convolution in (block.conv1, block.conv2, block.conv3, block.downsample[0])]


@DEFORMABLE
@pytest.mark.parametrize("in_1x1", [False, True])
@torch.inference_mode()
def test_with_the_stride_in_the_1x1_a_stage_sees_every_second_pixel_alone(in_1x1: bool, deformable: bool):
    body = build_backbone(ModelConfig(weights="none", stride_in_1x1=in_1x1, deformable=deformable)).body
    for stage in (body.layer2, body.layer3, body.layer4):
        block = stage[0]
        first, second = ((2, 2), (1, 1)) if in_1x1 else ((1, 1), (2, 2))
        assert strides(block) == [first, second, (1, 1), (2, 2)]
        features = torch.rand(1, block.conv1.in_channels, 8, 8)
        changed = features.clone()
        changed[:, :, 1::2] += 1
        changed[:, :, :, 1::2] += 1
        assert torch.equal(block(features), block(changed)) == in_1x1
        assert block(features).shape[2:] == (4, 4)


@pytest.mark.slow
@DEFORMABLE
@pytest.mark.parametrize("in_1x1", [False, True])
def test_float16_weights_widen_and_load_either_way(tmp_path: Path, in_1x1: bool, deformable: bool):
    torch.manual_seed(0)
    source = {
        name: value.half() if value.ndim == 4 else value
        for name, value in models.resnet50(weights=None).state_dict().items()
        if not name.startswith("fc.")
    }
    torch.save(source, tmp_path / "half.pth")
    settings = ModelConfig(weights=str(tmp_path / "half.pth"), stride_in_1x1=in_1x1, deformable=deformable)
    assert_loaded(settings)


@pytest.mark.skipif(not MSRA.is_file(), reason="the MSRA weights are not here")
def test_the_msra_weights_load():
    assert_loaded(ModelConfig(weights=str(MSRA), stride_in_1x1=True))


def assert_loaded(settings: ModelConfig) -> None:
    loaded = build_backbone(settings).body.state_dict()
    for name, value in read_backbone_weights(settings).state.items():
        if not name.endswith("num_batches_tracked"):
            assert loaded[name].dtype == torch.float32
            assert torch.equal(loaded[name], value.float()), name
