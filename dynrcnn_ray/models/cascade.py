"""Cascade R-CNN (Cai and Vasconcelos, CVPR 2018): the detector that the paper compares its speed with.

Three stages refine the boxes in turn, each trained at a higher IoU on the boxes of the one before.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import maskrcnn_inference
from torchvision.ops import clip_boxes_to_image

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.dynamic.proposals import AssignedProposals
from dynrcnn_ray.dynamic.state import DynamicTrainingState
from dynrcnn_ray.models.detections import Candidates, select
from dynrcnn_ray.models.float32 import at_least_float32
from dynrcnn_ray.models.roi_heads import Targets, TrainingRoIHeads, assign_and_sample
from dynrcnn_ray.models.torchvision_private import BoxCoder


@dataclass(frozen=True)
class Stage:
    """One stage's settings: positives' IoU, the box coder's weights, and the weight of its losses."""

    iou: float
    coder_weights: tuple[float, float, float, float]
    loss_weight: float


STAGES = (
    Stage(0.5, (10.0, 10.0, 5.0, 5.0), 1.0),
    Stage(0.6, (20.0, 20.0, 10.0, 10.0), 0.5),
    Stage(0.7, (30.0, 30.0, 15.0, 15.0), 0.25),
)


class CascadeRoIHeads(TrainingRoIHeads):
    """RoI heads in stages, with class-agnostic boxes.

    `box_head`, `box_predictor` and, with masks, `mask_head` and `mask_predictor` are lists of one module a stage. The
    dynamic state records the first stage's proposals; no stage follows it. Every stage appends the ground truths to its
    proposals, and hands on none of the boxes that it made of them.
    """

    def __init__(
        self, config: TrialConfig, dynamic: DynamicTrainingState, stages: tuple[Stage, ...] = STAGES, **heads: Any
    ) -> None:
        """Take the trial, its dynamic state, the stages' settings, and the pools and heads of the stages."""
        super().__init__(config, dynamic, **heads)
        assert len(self.box_head) == len(self.box_predictor) == len(stages)
        self.stages = stages
        self.coders = [BoxCoder(stage.coder_weights) for stage in stages]

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: Targets | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Losses in training, detections in testing. Arguments as for `DynamicRoIHeads`."""
        if self.training:
            self.check_targets(targets)
            assert targets is not None
            return [], self._losses(features, proposals, image_shapes, targets)
        boxes, scores, labels = select(self.candidates(features, proposals, image_shapes), self.config)
        results = [
            {"boxes": box, "scores": score, "labels": label}
            for box, score, label in zip(boxes, scores, labels, strict=True)
        ]
        if self.has_mask():
            for result, masks in zip(results, self._masks(features, boxes, labels, image_shapes), strict=True):
                result["masks"] = masks
        return results, {}

    def candidates(
        self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> list[Candidates]:
        """The last stage's box of each proposal, with scores averaged over the stages."""
        boxes, summed_scores = proposals, None
        for index in range(len(self.stages)):
            class_logits, offsets = self._predict(index, features, boxes, image_shapes)
            scores = F.softmax(class_logits, dim=-1)
            summed_scores = scores if summed_scores is None else summed_scores + scores
            boxes = self._refine(index, offsets, boxes, image_shapes)
        assert summed_scores is not None
        mean_scores = (summed_scores / len(self.stages)).split([len(box) for box in boxes])
        return [
            Candidates(box[:, None].expand(-1, score.shape[1] - 1, -1), score[:, 1:])
            for box, score in zip(boxes, mean_scores, strict=True)
        ]

    def _losses(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: Targets,
    ) -> dict[str, Tensor]:
        """Each loss summed over the stages with their weights."""
        beta = proposals[0].new_full((), self.config.dynamic.fixed_beta)
        total: dict[str, Tensor] = {}
        for index, stage in enumerate(self.stages):
            images = assign_and_sample(self, proposals, targets, proposals[0].new_full((), stage.iou))
            if index == 0:
                self.dynamic.record(self.dynamic.measure(images, self.coders[0].weights))
                self.last_assignment = images
            boxes = [image.sampled_boxes for image in images]
            class_logits, offsets = self._predict(index, features, boxes, image_shapes)
            losses = self.box_losses(images, class_logits, offsets, self.coders[index], beta)
            if self.mask_head is not None and self.mask_predictor is not None:
                losses["loss_mask"] = self.mask_loss(
                    self.mask_head[index], self.mask_predictor[index], features, images, image_shapes, targets
                )
            for name, loss in losses.items():
                total[name] = total.get(name, 0) + stage.loss_weight * loss
            refined = self._refine(index, offsets.detach(), boxes, image_shapes)
            proposals = [box[~_is_ground_truth(image)] for box, image in zip(refined, images, strict=True)]
        return total

    def _predict(
        self, index: int, features: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """A stage's class logits `[num_rois, num_classes]` and offsets `[num_rois, 4]`."""
        return self.box_predictor[index](self.box_head[index](self.box_roi_pool(features, boxes, image_shapes)))

    def _refine(
        self, index: int, offsets: Tensor, boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> list[Tensor]:
        """The decoded boxes of a stage, clipped to their images: the input of the next one."""
        # The coder leaves out the axis of the classes where there are no boxes at all.
        decoded = self.coders[index].decode(offsets, boxes).reshape(-1, 4).split([len(box) for box in boxes])
        return [clip_boxes_to_image(box, shape) for box, shape in zip(decoded, image_shapes, strict=True)]

    def _masks(
        self,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        labels: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> list[Tensor]:
        """Mask probabilities averaged over the stages, `[num_detections, 1, size, size]` an image."""
        assert self.mask_roi_pool is not None
        assert self.mask_head is not None
        assert self.mask_predictor is not None
        pooled = self.mask_roi_pool(features, boxes, image_shapes)
        of_stages = [
            maskrcnn_inference(predictor(head(pooled)), labels)
            for head, predictor in zip(self.mask_head, self.mask_predictor, strict=True)
        ]
        return [torch.stack(of_image).mean(dim=0) for of_image in zip(*of_stages, strict=True)]


def _is_ground_truth(image: AssignedProposals) -> Tensor:
    """Which of the sampled boxes are ground truths that the stage appended, `[num_sampled]`."""
    return image.sampled >= len(image.proposals) - len(image.gt_boxes)


class ClassAgnosticPredictor(nn.Module):
    """Class scores and one box for all classes."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        """Build for `num_classes` classes, the background counted."""
        super().__init__()
        self.cls_score = nn.Linear(in_channels, num_classes)
        self.bbox_pred = nn.Linear(in_channels, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores `[num_rois, num_classes]` and offsets `[num_rois, 4]`, in float32 also under mixed precision."""
        return at_least_float32(self.cls_score(x)), at_least_float32(self.bbox_pred(x))
