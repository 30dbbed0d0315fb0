"""RetinaNet and FCOS, which Table 9 compares with: torchvision's detectors on this project's backbones."""

import math

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.models.backbones import build_backbone
from dynrcnn_ray.models.float32 import Float32AnchorGenerator, Float32FCOSHead, Float32RetinaNetHead
from dynrcnn_ray.models.input_size import InputSizeTransform

_ASPECT_RATIOS = (0.5, 1.0, 2.0)
_SIZES_PER_OCTAVE = (1, 2 ** (1 / 3), 2 ** (2 / 3))
_RETINANET_CHANNELS = 256
"""The width for which the standard deviation of .01, by which its head's weights are drawn, was chosen."""
_FCOS_STRIDES = (8, 16, 32, 64, 128)
_LOSS_NAMES = {
    "classification": "loss_classifier",
    "bbox_regression": "loss_box_reg",
    "bbox_ctrness": "loss_centerness",
}


class NamedLossRetinaNet(RetinaNet):
    """torchvision's RetinaNet; its losses have the names that the two-stage detectors use."""

    def compute_loss(
        self, targets: list[dict[str, Tensor]], head_outputs: dict[str, Tensor], anchors: list[Tensor]
    ) -> dict[str, Tensor]:
        """`loss_classifier` and `loss_box_reg`."""
        return _renamed(super().compute_loss(targets, head_outputs, anchors))


class NamedLossFCOS(FCOS):
    """torchvision's FCOS; its losses have the names that the two-stage detectors use."""

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        num_anchors_per_level: list[int],
    ) -> dict[str, Tensor]:
        """`loss_classifier`, `loss_box_reg` and `loss_centerness`."""
        return _renamed(super().compute_loss(targets, head_outputs, anchors, num_anchors_per_level))


def build_one_stage(config: TrialConfig, num_classes: int) -> RetinaNet | FCOS:
    """RetinaNet or FCOS with initial weights, and with the trial's score threshold, NMS and number of detections.

    The weights of RetinaNet's head grow as its width shrinks: it has no normalisation, and 64 channels with the weights
    of 256 would let a sixteenth of the features' spread through.

    Args:
        config: the trial.
        num_classes: classes of the data set, the background not counted.

    Raises:
        WeightsError: the backbone's weights cannot be loaded.
    """
    settings = config.model
    is_fcos = settings.name == "fcos"
    backbone = build_backbone(settings)
    anchors = _centres() if is_fcos else _anchors(settings.anchor_sizes)
    # Labels count from 1, and these detectors have no class for the background.
    num_labels = num_classes + 1
    head = Float32FCOSHead if is_fcos else Float32RetinaNetHead
    model = (NamedLossFCOS if is_fcos else NamedLossRetinaNet)(
        backbone,
        num_labels,
        anchor_generator=anchors,
        head=head(backbone.out_channels, anchors.num_anchors_per_location()[0], num_labels),
        score_thresh=settings.score_threshold,
        nms_thresh=settings.nms_iou,
        detections_per_img=settings.detections_per_image,
    )
    model.transform = InputSizeTransform(config.data)
    if not is_fcos:
        _scale_to_width(model.head, backbone.out_channels)
    return model


@torch.no_grad()
def _scale_to_width(head: nn.Module, channels: int) -> None:
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.mul_(math.sqrt(_RETINANET_CHANNELS / channels))


def _anchors(sizes: tuple[int, ...]) -> Float32AnchorGenerator:
    of_levels = tuple(tuple(int(size * octave) for octave in _SIZES_PER_OCTAVE) for size in sizes)
    return Float32AnchorGenerator(of_levels, (_ASPECT_RATIOS,) * len(of_levels))


def _centres() -> Float32AnchorGenerator:
    return Float32AnchorGenerator(tuple((stride,) for stride in _FCOS_STRIDES), ((1.0,),) * len(_FCOS_STRIDES))


def _renamed(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    return {_LOSS_NAMES[name]: value for name, value in losses.items()}
