"""Faster R-CNN as the paper trains it: torchvision's model with RoI heads that can train dynamically."""

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RPNHead

from dynrcnn_ray.config import TrialConfig
from dynrcnn_ray.dynamic_training import DynamicTrainingState
from dynrcnn_ray.models.backbones import build_backbone
from dynrcnn_ray.models.roi_align import FastBackwardRoIAlign
from dynrcnn_ray.models.roi_heads import DynamicRoIHeads

_ROI_SIZE = 7
_ASPECT_RATIOS = (0.5, 1.0, 2.0)


class Float32RPNHead(RPNHead):
    """torchvision's RPN head with float32 outputs also under mixed precision.

    torchvision decodes boxes in the precision of these outputs, and bfloat16 rounds a corner to several pixels.
    """

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness and offsets of each level."""
        objectness, offsets = super().forward(x)
        return [level.float() for level in objectness], [level.float() for level in offsets]


class Float32BoxPredictor(FastRCNNPredictor):
    """torchvision's box predictor with float32 outputs also under mixed precision."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Class scores and box offsets of each RoI."""
        scores, offsets = super().forward(x)
        return scores.float(), offsets.float()


def build_model(config: TrialConfig, num_classes: int, dynamic: DynamicTrainingState) -> FasterRCNN:
    """Build the detector with its initial weights; it trains by the dynamic state and knows it as `roi_heads.dynamic`.

    The state_dict is that of torchvision's model, name for name, and holds nothing of the dynamic state.

    Args:
        config: the trial.
        num_classes: classes of the data set, the background not counted.
        dynamic: Algorithm 1's state, on the device where the model will train.

    Raises:
        ValueError: the backbone's weights cannot be loaded.
    """
    model = build_torchvision_model(config, num_classes)
    plain = model.roi_heads
    model.roi_heads = DynamicRoIHeads(
        dynamic,
        box_roi_pool=plain.box_roi_pool,
        box_head=plain.box_head,
        box_predictor=plain.box_predictor,
        batch_size_per_image=config.model.rois_per_image,
        positive_fraction=config.model.positive_fraction,
        score_thresh=config.model.score_threshold,
        nms_thresh=config.model.nms_iou,
        detections_per_img=config.model.detections_per_image,
    )
    return model


def build_torchvision_model(config: TrialConfig, num_classes: int) -> FasterRCNN:
    """The same detector with torchvision's own RoI heads: what a trained state_dict loads into.

    Raises:
        ValueError: the backbone's weights cannot be loaded.
    """
    settings = config.model
    backbone = build_backbone(settings)
    anchors = AnchorGenerator(
        sizes=tuple((size,) for size in settings.anchor_sizes),
        aspect_ratios=(_ASPECT_RATIOS,) * len(settings.anchor_sizes),
    )
    box_roi_pool = FastBackwardRoIAlign(
        featmap_names=["0", "1", "2", "3"],
        output_size=_ROI_SIZE,
        sampling_ratio=2,
        # A RoI of this size is read from the pyramid's third level; 224 where the smallest anchors have 32 pixels.
        canonical_scale=7 * settings.anchor_sizes[0],
    )
    box_head = TwoMLPHead(backbone.out_channels * _ROI_SIZE**2, settings.head_channels)
    box_predictor = Float32BoxPredictor(settings.head_channels, num_classes + 1)
    _initialise_box_head(box_head, box_predictor)
    return FasterRCNN(
        backbone,
        min_size=config.data.short_side,
        max_size=config.data.long_side,
        rpn_anchor_generator=anchors,
        rpn_head=Float32RPNHead(backbone.out_channels, anchors.num_anchors_per_location()[0]),
        rpn_pre_nms_top_n_train=settings.rpn_pre_nms_train,
        rpn_pre_nms_top_n_test=settings.rpn_pre_nms_test,
        rpn_post_nms_top_n_train=settings.rpn_post_nms,
        rpn_post_nms_top_n_test=settings.rpn_post_nms,
        rpn_nms_thresh=settings.rpn_nms_iou,
        rpn_batch_size_per_image=settings.rpn_samples,
        box_roi_pool=box_roi_pool,
        box_head=box_head,
        box_predictor=box_predictor,
        box_score_thresh=settings.score_threshold,
        box_nms_thresh=settings.nms_iou,
        box_detections_per_img=settings.detections_per_image,
        box_fg_iou_thresh=config.dynamic.fixed_iou,
        box_bg_iou_thresh=config.dynamic.fixed_iou,
        box_batch_size_per_image=settings.rois_per_image,
        box_positive_fraction=settings.positive_fraction,
    )


def _initialise_box_head(head: TwoMLPHead, predictor: FastRCNNPredictor) -> None:
    """The initial weights of the paper's code base; torchvision leaves PyTorch's defaults."""
    for layer in (head.fc6, head.fc7):
        nn.init.kaiming_uniform_(layer.weight, a=1)
        nn.init.zeros_(layer.bias)
    nn.init.normal_(predictor.cls_score.weight, std=0.01)
    nn.init.zeros_(predictor.cls_score.bias)
    nn.init.normal_(predictor.bbox_pred.weight, std=0.001)
    nn.init.zeros_(predictor.bbox_pred.bias)
