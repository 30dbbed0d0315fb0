"""RetinaNet and FCOS, which Table 9 compares with: torchvision's detectors on this project's backbones."""

from torch import Tensor
from torchvision.models.detection import FCOS, RetinaNet

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.models.backbones import build_backbone
from dynrcnn_ray.models.float32 import Float32AnchorGenerator, Float32FCOSHead, Float32RetinaNetHead
from dynrcnn_ray.models.input_size import InputSizeTransform

_ASPECT_RATIOS = (0.5, 1.0, 2.0)
_SIZES_PER_OCTAVE = (1, 2 ** (1 / 3), 2 ** (2 / 3))
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
    return model


def _anchors(sizes: tuple[int, ...]) -> Float32AnchorGenerator:
    of_levels = tuple(tuple(int(size * octave) for octave in _SIZES_PER_OCTAVE) for size in sizes)
    return Float32AnchorGenerator(of_levels, (_ASPECT_RATIOS,) * len(of_levels))


def _centres() -> Float32AnchorGenerator:
    return Float32AnchorGenerator(tuple((stride,) for stride in _FCOS_STRIDES), ((1.0,),) * len(_FCOS_STRIDES))


def _renamed(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    return {_LOSS_NAMES[name]: value for name, value in losses.items()}
