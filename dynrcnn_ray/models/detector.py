"""The detectors as the paper trains them: torchvision's models with RoI heads that train dynamically."""

from typing import Any

from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RegionProposalNetwork

from dynrcnn_ray.config.sections import ModelConfig
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.dynamic.state import DynamicTrainingState
from dynrcnn_ray.models.backbones import build_backbone
from dynrcnn_ray.models.cascade import STAGES, CascadeRoIHeads, ClassAgnosticPredictor
from dynrcnn_ray.models.float32 import Float32AnchorGenerator, Float32BoxPredictor, Float32RPNHead
from dynrcnn_ray.models.input_size import InputSizeTransform
from dynrcnn_ray.models.one_stage import build_one_stage
from dynrcnn_ray.models.region_proposals import BestFirstRPN
from dynrcnn_ray.models.roi_align import RoIAlignBySums
from dynrcnn_ray.models.roi_heads import DynamicRoIHeads, TrainingRoIHeads

_BOX_SIZE = 7
_MASK_SIZE = 14
_MASK_LAYERS = 4
_ASPECT_RATIOS = (0.5, 1.0, 2.0)


Detector = FasterRCNN | RetinaNet | FCOS
"""A detector of two stages, Mask R-CNN among them, or of one."""


def build_model(
    config: TrialConfig,
    num_classes: int,
    dynamic: DynamicTrainingState,
    roi_heads: type[TrainingRoIHeads] | None = None,
) -> Detector:
    """Build the detector with its initial weights; it trains by the dynamic state and knows it as `roi_heads.dynamic`.

    A detector of one stage has no use for it. The state_dict of a Faster or Mask R-CNN is that of torchvision's model,
    name for name. It holds nothing of the dynamic state.

    Args:
        config: the trial.
        num_classes: classes of the data set, the background not counted.
        dynamic: Algorithm 1's state, on the device where the model will train.
        roi_heads: a subclass of the detector's own RoI heads (see `roi_heads_of`) in their place.

    Raises:
        ValueError: the backbone's weights cannot be loaded.
    """
    if config.model.is_one_stage:
        return build_one_stage(config, num_classes)
    model = build_torchvision_model(config, num_classes)
    model.transform = InputSizeTransform(config.data)
    pools_and_heads = {name: getattr(model.roi_heads, name) for name in POOLS_AND_HEADS}
    if config.model.is_cascade:
        pools_and_heads |= _cascade_heads(config.model, num_classes)
    model.roi_heads = (roi_heads or roi_heads_of(config.model))(config, dynamic, **pools_and_heads)
    return model


def roi_heads_of(model: ModelConfig) -> type[TrainingRoIHeads]:
    """The class of a detector's RoI heads, if it has two stages or more."""
    return CascadeRoIHeads if model.is_cascade else DynamicRoIHeads


POOLS_AND_HEADS = ("box_roi_pool", "box_head", "box_predictor", "mask_roi_pool", "mask_head", "mask_predictor")


def build_torchvision_model(config: TrialConfig, num_classes: int) -> FasterRCNN:
    """The detector with torchvision's own RoI heads, of one stage: what a trained state_dict loads into.

    Raises:
        ValueError: the backbone's weights cannot be loaded.
    """
    settings = config.model
    backbone = build_backbone(settings)
    anchors = Float32AnchorGenerator(
        sizes=tuple((size,) for size in settings.anchor_sizes),
        aspect_ratios=(_ASPECT_RATIOS,) * len(settings.anchor_sizes),
    )
    box_head, box_predictor = _box_head(settings), Float32BoxPredictor(settings.head_channels, num_classes + 1)
    _initialise_predictor(box_predictor)
    masks = {"mask_roi_pool": _roi_pool(settings, _MASK_SIZE), **_mask_head(settings, num_classes)}
    model = (MaskRCNN if settings.has_masks else FasterRCNN)(
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
        box_roi_pool=_roi_pool(settings, _BOX_SIZE),
        box_head=box_head,
        box_predictor=box_predictor,
        box_score_thresh=settings.score_threshold,
        box_nms_thresh=settings.nms_iou,
        box_detections_per_img=settings.detections_per_image,
        box_fg_iou_thresh=config.dynamic.fixed_iou,
        box_bg_iou_thresh=config.dynamic.fixed_iou,
        box_batch_size_per_image=settings.rois_per_image,
        box_positive_fraction=settings.positive_fraction,
        **(masks if settings.has_masks else {}),
    )
    assert isinstance(model.rpn, RegionProposalNetwork)
    model.rpn = BestFirstRPN.of(model.rpn)
    return model


def _cascade_heads(settings: ModelConfig, num_classes: int) -> dict[str, Any]:
    """Heads and predictors of all stages."""
    predictors = [ClassAgnosticPredictor(settings.head_channels, num_classes + 1) for _ in STAGES]
    for predictor in predictors:
        _initialise_predictor(predictor)
    heads: dict[str, Any] = {
        "box_head": nn.ModuleList(_box_head(settings) for _ in STAGES),
        "box_predictor": nn.ModuleList(predictors),
    }
    if settings.has_masks:
        of_stages = [_mask_head(settings, num_classes) for _ in STAGES]
        heads |= {name: nn.ModuleList(stage[name] for stage in of_stages) for name in ("mask_head", "mask_predictor")}
    return heads


def _roi_pool(settings: ModelConfig, output_size: int) -> RoIAlignBySums:
    return RoIAlignBySums(
        featmap_names=["0", "1", "2", "3"],
        output_size=output_size,
        sampling_ratio=2,
        # A RoI of this size is read from the pyramid's third level; 224 where the smallest anchors have 32 pixels.
        canonical_scale=7 * settings.anchor_sizes[0],
    )


def _box_head(settings: ModelConfig) -> TwoMLPHead:
    """fc6 and fc7 with the initial weights of the paper's code base; torchvision leaves PyTorch's defaults."""
    head = TwoMLPHead(settings.fpn_channels * _BOX_SIZE**2, settings.head_channels)
    for layer in (head.fc6, head.fc7):
        nn.init.kaiming_uniform_(layer.weight, a=1)
        nn.init.zeros_(layer.bias)
    return head


def _initialise_predictor(predictor: FastRCNNPredictor | ClassAgnosticPredictor) -> None:
    nn.init.normal_(predictor.cls_score.weight, std=0.01)
    nn.init.zeros_(predictor.cls_score.bias)
    nn.init.normal_(predictor.bbox_pred.weight, std=0.001)
    nn.init.zeros_(predictor.bbox_pred.bias)


def _mask_head(settings: ModelConfig, num_classes: int) -> dict[str, nn.Module]:
    channels = settings.fpn_channels
    return {
        "mask_head": MaskRCNNHeads(channels, (channels,) * _MASK_LAYERS, dilation=1),
        "mask_predictor": MaskRCNNPredictor(channels, channels, num_classes + 1),
    }
