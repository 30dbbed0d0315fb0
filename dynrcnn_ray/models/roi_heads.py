"""RoI heads that train dynamically. At test time they are torchvision's own, to the line."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads

from dynrcnn_ray.boxes import assign_labels, match_proposals, smooth_l1
from dynrcnn_ray.dynamic_training import AssignedProposals, DynamicTrainingState


class DynamicRoIHeads(RoIHeads):
    """torchvision's RoI heads; in training the IoU threshold and SmoothL1's beta come from Algorithm 1.

    The dynamic state stands beside the model: it is no part of the `state_dict`.
    """

    def __init__(self, dynamic: DynamicTrainingState, **settings: Any) -> None:
        """Take the dynamic state and the settings of torchvision's `RoIHeads`, without its IoU thresholds."""
        super().__init__(
            fg_iou_thresh=dynamic.config.fixed_iou,
            bg_iou_thresh=dynamic.config.fixed_iou,
            bbox_reg_weights=None,
            **settings,
        )
        self.dynamic = dynamic
        self.last_assignment: list[AssignedProposals] = []

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Losses in training, detections in testing.

        Args:
            features: the pyramid's levels, `[batch, channels, height, width]` each.
            proposals: `[num_proposals, 4]` an image, xyxy pixels of the resized image.
            image_shapes: height and width of each resized image.
            targets: `boxes` `[num_gt, 4]` and `labels` `[num_gt]` of each image; needed in training.
        """
        if not self.training:
            return super().forward(features, proposals, image_shapes, targets)
        self.check_targets(targets)
        assert targets is not None
        images = self.assign_and_sample(proposals, targets)
        self.dynamic.record(self.dynamic.measure(images, self.box_coder.weights))
        self.last_assignment = images

        sampled_boxes = [image.proposals[image.sampled] for image in images]
        box_features = self.box_head(self.box_roi_pool(features, sampled_boxes, image_shapes))
        class_logits, box_regression = self.box_predictor(box_features)
        return [], self.box_losses(images, sampled_boxes, class_logits, box_regression)

    @torch.no_grad()
    def assign_and_sample(self, proposals: list[Tensor], targets: list[dict[str, Tensor]]) -> list[AssignedProposals]:
        """Append the ground truths to the proposals, label them by T_now (Paper: Eq. 3) and sample."""
        threshold = self.dynamic.iou_threshold
        candidates, matches, labels = [], [], []
        for boxes, target in zip(proposals, targets, strict=True):
            candidate = torch.cat([boxes, target["boxes"].to(boxes.dtype)])
            match = match_proposals(candidate, target["boxes"].to(boxes.dtype)) if len(target["boxes"]) else None
            background = torch.zeros(len(candidate), dtype=torch.int64, device=candidate.device)
            candidates.append(candidate)
            matches.append(match)
            labels.append(assign_labels(match, target["labels"], threshold) if match else background)
        return [
            AssignedProposals(candidate, target["boxes"].to(candidate.dtype), match, sampled, label[sampled])
            for candidate, target, match, sampled, label in zip(
                candidates, targets, matches, self.subsample(labels), labels, strict=True
            )
        ]

    def box_losses(
        self,
        images: list[AssignedProposals],
        sampled_boxes: list[Tensor],
        class_logits: Tensor,
        box_regression: Tensor,
    ) -> dict[str, Tensor]:
        """Cross entropy over all sampled RoIs, and SmoothL1 over the positives (Paper: Eq. 5).

        Args:
            images: the assignment.
            sampled_boxes: `[num_sampled, 4]` an image.
            class_logits: `[num_rois, num_classes]`, the background first.
            box_regression: `[num_rois, num_classes * 4]`, offsets for each class.

        Returns:
            `loss_classifier` and `loss_box_reg`, both per sampled RoI.
        """
        labels = torch.cat([image.labels for image in images])
        targets = torch.cat(self.box_coder.encode([_matched_gt_boxes(image) for image in images], sampled_boxes))
        offsets = box_regression.reshape(len(labels), -1, 4)
        own_class = labels[:, None, None].expand(-1, 1, 4)
        errors = (offsets.gather(1, own_class)[:, 0] - targets).abs()
        box_loss = smooth_l1(errors, self.dynamic.smooth_l1_beta) * (labels > 0)[:, None]
        return {
            "loss_classifier": F.cross_entropy(class_logits, labels),
            "loss_box_reg": box_loss.sum() / labels.numel(),
        }


def _matched_gt_boxes(image: AssignedProposals) -> Tensor:
    """The ground truth of each sampled proposal; the proposal itself where the image has none."""
    if image.match is None:
        return image.proposals[image.sampled]
    return image.gt_boxes[image.match.gt_index[image.sampled]]
