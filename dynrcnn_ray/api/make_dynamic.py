"""A torchvision detector that trains dynamically: its RoI heads become the package's, and its weights stay."""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.roi_heads import RoIHeads

from dynrcnn_ray.api.dynamic_training import DynamicTraining, DynamicTrainingError, state_of
from dynrcnn_ray.dynamic.open_state import OpenTrainingState
from dynrcnn_ray.models.detector import POOLS_AND_HEADS
from dynrcnn_ray.models.roi_heads import DynamicRoIHeads, Targets
from dynrcnn_ray.models.torchvision_private import BalancedPositiveNegativeSampler, BoxCoder


def make_dynamic(
    model: nn.Module,
    *,
    iou_top_k: int = 75,
    beta_top_k: int = 10,
    update_interval: int = 100,
    initial_iou: float = 0.4,
    initial_beta: float = 1.0,
) -> DynamicTraining:
    """Make torchvision's Faster or Mask R-CNN train dynamically, in place.

    Labels follow T_now and SmoothL1 follows beta_now (Paper: Section 4). Backbone, RPN, pools, heads and predictors
    stay what they are, as do detection, the names in the `state_dict` and the optimiser's parameters. Call `step()` of
    what is returned after each `optimizer.step()`, and save its `state_dict()` beside the model's.

    >>> import torch
    >>> from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn
    >>> import dynrcnn_ray as dr
    >>> model = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=3)
    >>> dynamic = dr.make_dynamic(model, update_interval=1)
    >>> target = {"boxes": torch.tensor([[30.0, 30, 90, 90]]), "labels": torch.tensor([1])}
    >>> losses = model([torch.rand(3, 120, 160)], [target])
    >>> dynamic.step()
    >>> sorted(losses), float(dynamic.iou_threshold) >= 0.4, float(dynamic.beta) <= 1
    (['loss_box_reg', 'loss_classifier', 'loss_objectness', 'loss_rpn_box_reg'], True, True)

    Args:
        model: with torchvision's RPN and RoI heads; any backbone, and any pool, head and predictor in them.
        iou_top_k: K_I, per image of 512 sampled RoIs. A model that samples fewer scales it in proportion.
        beta_top_k: K_beta, the same.
        update_interval: C, training steps between two updates.
        initial_iou: T_now before the first update, and its floor.
        initial_beta: beta_now before the first update, and its ceiling.

    Raises:
        ValueError: the model is none that can train so, or a value is out of range.
    """
    heads = _usable_heads(model)
    dynamic = DynamicTraining(
        iou_top_k=iou_top_k,
        beta_top_k=beta_top_k,
        update_interval=update_interval,
        initial_iou=initial_iou,
        initial_beta=initial_beta,
        rois_per_image=heads.fg_bg_sampler.batch_size_per_image,
    )
    model.roi_heads = _OwnLoopRoIHeads.of(heads, state_of(dynamic))
    return dynamic


class _OwnLoopRoIHeads(DynamicRoIHeads):
    """RoI heads of somebody's model, in somebody's training loop."""

    dynamic: OpenTrainingState

    @classmethod
    def of(cls, heads: RoIHeads, dynamic: OpenTrainingState) -> "_OwnLoopRoIHeads":
        """With all that the model's own heads have: modules, thresholds, hooks."""
        made = cls(dynamic.trial, dynamic, **{name: getattr(heads, name) for name in POOLS_AND_HEADS})
        vars(made).update(vars(heads))
        return made

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: Targets | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """As the package's own; T_now and beta_now follow the model to its device."""
        if self.training:
            self.dynamic.move_to(proposals[0].device)
        return super().forward(features, proposals, image_shapes, targets)

    def check_targets(self, targets: Targets | None) -> None:
        """Refuse what torchvision's forward refuses."""
        super().check_targets(targets)
        for target in targets or []:
            if not target["boxes"].dtype.is_floating_point or target["labels"].dtype != torch.int64:
                raise DynamicTrainingError(
                    f"targets: boxes are {target['boxes'].dtype} and labels {target['labels'].dtype}; they must be "
                    "floating and torch.int64"
                )


def _usable_heads(model: Any) -> RoIHeads:
    """The RoI heads of a model, if it can train dynamically."""
    kind = type(model).__name__
    if not isinstance(model, GeneralizedRCNN) or not isinstance(model.roi_heads, RoIHeads):
        remedy = "it has no proposals to follow" if isinstance(model, nn.Module) else "give the model itself"
        if isinstance(getattr(model, "module", None), GeneralizedRCNN):
            remedy = "give the model inside it, its .module"
        raise DynamicTrainingError(f"model: {kind} is no Faster or Mask R-CNN of torchvision's; {remedy}")
    heads = model.roi_heads
    if isinstance(heads, DynamicRoIHeads):
        raise DynamicTrainingError(f"model: this {kind} trains dynamically already; use what the first call returned")
    if type(heads) is not RoIHeads:
        raise DynamicTrainingError(
            f"model.roi_heads: {type(heads).__name__} is a class of your own, whose labels and losses would be lost; "
            "give torchvision's RoIHeads with your pools, heads and predictors, or see docs/own_rule.md"
        )
    if heads.has_keypoint():
        raise DynamicTrainingError(f"model: {kind} has keypoints, which do not train dynamically; leave them out")
    for name, torchvisions in (("fg_bg_sampler", BalancedPositiveNegativeSampler), ("box_coder", BoxCoder)):
        if not isinstance(getattr(heads, name), torchvisions):
            raise DynamicTrainingError(
                f"model.roi_heads.{name}: {type(getattr(heads, name)).__name__} is not torchvision's "
                f"{torchvisions.__name__}; the statistics are stated for that"
            )
    return heads
