"""Backbones: ResNets and small ones of our own, each below a feature pyramid (FPN)."""

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from dynrcnn_ray.config.sections import ModelConfig
from dynrcnn_ray.models.backbone_weights import read_backbone_weights
from dynrcnn_ray.models.deformable import deform
from dynrcnn_ray.models.state_dicts import named, without_wrapper
from dynrcnn_ray.models.weights import WeightsError

_BLOCKS_OF_TINY = {"tiny": 1, "small": 2}
_STAGES = ("layer4", "layer3", "layer2", "layer1", "conv1", "bn1")


class SameTypeFrozenBatchNorm2d(FrozenBatchNorm2d):
    """torchvision's frozen norm; what comes out has the type of what went in.

    torchvision's makes float32 of bfloat16, and under mixed precision the backward pass then keeps every activation of
    the ResNet twice: in float32 for the ReLU, in bfloat16 for the next convolution.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `[batch, channels, height, width]`, in float32, and round the result once.

        Where nothing is trained this is one operation instead of two. Trained through, it would keep its input.
        """
        if torch.is_grad_enabled():
            return super().forward(x).to(x.dtype)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class TinyResNet(nn.Module):
    """A ResNet of a few basic blocks a stage with 16 to 128 channels, for small images on a CPU.

    Its stages have the names and strides (4, 8, 16, 32) of torchvision's ResNets.
    """

    def __init__(self, blocks: int, norm_layer: Callable[[int], nn.Module]) -> None:
        """Build the network of so many blocks a stage; `norm_layer` makes a normalisation of so many channels."""
        super().__init__()
        self.inplanes = 128
        self.conv1 = nn.Conv2d(3, 16, kernel_size=3, stride=2, padding=1, bias=False)
        self.bn1 = norm_layer(16)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = _stage(16, 16, stride=1, blocks=blocks, norm_layer=norm_layer)
        self.layer2 = _stage(16, 32, stride=2, blocks=blocks, norm_layer=norm_layer)
        self.layer3 = _stage(32, 64, stride=2, blocks=blocks, norm_layer=norm_layer)
        self.layer4 = _stage(64, 128, stride=2, blocks=blocks, norm_layer=norm_layer)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """From `[batch, 3, height, width]` to stride 32 and 128 channels."""
        stem = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return self.layer4(self.layer3(self.layer2(self.layer1(stem))))


def build_backbone(config: ModelConfig) -> BackboneWithFPN:
    """The ResNet of `config.backbone` with its weights, its lower stages frozen, below a feature pyramid.

    The pyramid has levels 2 to 6, or 3 to 7 for a detector of one stage.

    Raises:
        WeightsError: the weights cannot be loaded.
    """
    norm_layer = SameTypeFrozenBatchNorm2d if config.norm == "frozen_batch_norm" else _group_norm
    if config.backbone in _BLOCKS_OF_TINY:
        body = TinyResNet(_BLOCKS_OF_TINY[config.backbone], norm_layer)
    else:
        body = models.get_model(config.backbone, weights=None, norm_layer=norm_layer)
        assert isinstance(body, models.ResNet)
        del body.fc
        if config.stride_in_1x1:
            _stride_in_1x1(body)
    if config.weights != "none" and not config.detector_weights:
        _load_weights(body, config)
    if config.deformable:
        deform(body)
    _freeze(body, config.trainable_layers)
    channels = [body.inplanes // 8, body.inplanes // 4, body.inplanes // 2, body.inplanes]
    layers = {"layer1": "0", "layer2": "1", "layer3": "2", "layer4": "3"}
    if not config.is_one_stage:
        return BackboneWithFPN(body, layers, channels, config.fpn_channels)
    del layers["layer1"]
    extra_levels = LastLevelP6P7(config.fpn_channels, config.fpn_channels)
    return BackboneWithFPN(body, layers, channels[1:], config.fpn_channels, extra_levels)


def _stride_in_1x1(body: models.ResNet) -> None:
    """Move the stride of layer2 to layer4 from the 3x3 of their first bottleneck to its first 1x1, in place."""
    for stage in (body.layer2, body.layer3, body.layer4):
        block = stage[0]
        assert isinstance(block, Bottleneck)
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


def note_on_weights(config: ModelConfig) -> str:
    """What is taken of a file of weights that are not saved plainly, in a line; empty if there is nothing to tell.

    Raises:
        WeightsError: they cannot be read, or do not fit.
    """
    plain = dataclasses.replace(config, weights="none", deformable=False)
    return _load_weights(build_backbone(plain).body, config)


def _load_weights(body: nn.Module, config: ModelConfig) -> str:
    """Load them.

    Returns:
        What was taken of a file, if there is anything to tell.
    """
    own = body.state_dict()
    found = read_backbone_weights(config)
    state, prefix = without_wrapper(found.state, own)
    state = {name: value for name, value in state.items() if not name.endswith(".num_batches_tracked")}
    # What else a model has beside its body, such as a classifier under another name, is not used.
    parts = {name.partition(".")[0] for name in own}
    besides = [name for name in state if name.partition(".")[0] not in parts]
    _require_fit(own, {name: value for name, value in state.items() if name not in besides}, besides, config)
    body.load_state_dict({name: state[name] for name in own})
    told = [f"its entry {found.entry!r}"] if found.entry else []
    told += [f"names without {prefix!r}"] if prefix else []
    told += [f"not used: {named(besides)}"] if besides else []
    return f"model.weights: {config.weights!r}: {'; '.join(told)}" if told else ""


def _require_fit(own: dict[str, Tensor], state: dict[str, Tensor], besides: list[str], config: ModelConfig) -> None:
    missing = [name for name in own if name not in state]
    others = [name for name in state if name not in own]
    shapes = [name for name in own if name in state and state[name].shape != own[name].shape]
    told = [
        f"{len(names)} {what} ({named(names)})"
        for names, what in ((missing, "tensors are missing"), (others, "are too many"), (shapes, "have another shape"))
        if names
    ]
    if not told:
        return
    remedy = "choose the model.backbone and model.norm that it is of, or another file"
    if any(name.startswith("backbone.") for name in besides):
        remedy = "it is a detector's: give it as --model.detector-weights"
    raise WeightsError(
        f"model.weights: {config.weights!r} does not fit {config.backbone} with {config.norm}: {', '.join(told)}; "
        f"{remedy}"
    )


def _freeze(body: nn.Module, trainable_layers: int) -> None:
    """Leave only the uppermost stages to train. With 5 the stem trains too, its norm included."""
    trainable = _STAGES if trainable_layers == 5 else _STAGES[:trainable_layers]
    for name, parameter in body.named_parameters():
        parameter.requires_grad_(name.startswith(trainable))


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(min(32, channels // 4), channels)


def _stage(
    in_channels: int, out_channels: int, *, stride: int, blocks: int, norm_layer: Callable[[int], nn.Module]
) -> nn.Sequential:
    downsample = None
    if stride != 1 or in_channels != out_channels:
        downsample = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False), norm_layer(out_channels)
        )
    first = BasicBlock(in_channels, out_channels, stride, downsample, norm_layer=norm_layer)
    others = [BasicBlock(out_channels, out_channels, norm_layer=norm_layer) for _ in range(blocks - 1)]
    return nn.Sequential(first, *others)
