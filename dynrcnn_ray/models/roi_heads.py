"""RoI heads that train dynamically. At test time they are torchvision's own.

Labels, samples and losses of one's own override `assign`, `sample`, `box_losses` or `mask_loss` in a subclass.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_loss

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.dynamic.boxes import Match, assign_labels, match_proposals, smooth_l1
from dynrcnn_ray.dynamic.proposals import AssignedProposals
from dynrcnn_ray.dynamic.state import DynamicTrainingState
from dynrcnn_ray.models.detections import Candidates, select_with_soft_nms
from dynrcnn_ray.models.float32 import at_least_float32
from dynrcnn_ray.models.torchvision_private import BalancedPositiveNegativeSampler, BoxCoder

Targets = list[dict[str, Tensor]]


class TrainingRoIHeads(RoIHeads):
    """How RoI heads of one stage or of several label proposals, sample them and compute their losses.

    The dynamic state stands beside the model: it is no part of the `state_dict`.
    """

    def __init__(self, config: TrialConfig, dynamic: DynamicTrainingState, **heads: Any) -> None:
        """Take the trial, its dynamic state, and the pools, heads and predictors of torchvision's `RoIHeads`."""
        super().__init__(**heads, **roi_head_settings(config))
        self.config = config
        self.dynamic = dynamic
        self.last_assignment: list[AssignedProposals] = []

    def assign(
        self, proposals: Tensor, gt_boxes: Tensor, gt_labels: Tensor, iou_threshold: Tensor
    ) -> tuple[Match, Tensor]:
        """Label an image's proposals by the threshold (Paper: Eq. 3). Images without ground truth never come here.

        Args:
            proposals: `[num_proposals, 4]`, xyxy pixels: the RPN's, then the image's ground truths.
            gt_boxes: `[num_gt, 4]`, at least one.
            gt_labels: `[num_gt]`, classes from 1.
            iou_threshold: scalar tensor; T_now with DLA, else the fixed one.

        Returns:
            The ground truth that each proposal learns, and each one's class, `[num_proposals]`, int64; 0 is background.
        """
        match = match_proposals(proposals, gt_boxes)
        return match, assign_labels(match, gt_labels, iou_threshold)

    def sample(self, labels: list[Tensor], matches: list[Match | None]) -> list[Tensor]:
        """Draw the proposals that the losses see.

        Args:
            labels: `[num_proposals]` of each image, from `assign`.
            matches: of each image, from `assign`; None without ground truth.

        Returns:
            `[num_sampled]` of each image, indices of proposals.
        """
        return self.subsample(labels)

    def subsample(self, labels: list[Tensor]) -> list[Tensor]:
        """The sampled proposals of each image."""
        return [sample_proposals(label, self.fg_bg_sampler) for label in labels]

    def box_losses(
        self,
        images: list[AssignedProposals],
        class_logits: Tensor,
        offsets: Tensor,
        coder: BoxCoder,
        beta: Tensor,
    ) -> dict[str, Tensor]:
        """The losses of classes and boxes. Arguments and result as for the function `box_losses`."""
        return box_losses(images, class_logits, offsets, coder, beta)

    def mask_loss(
        self,
        mask_head: Any,
        mask_predictor: Any,
        features: dict[str, Tensor],
        images: list[AssignedProposals],
        image_shapes: list[tuple[int, int]],
        targets: Targets,
    ) -> Tensor:
        """The loss of the masks, a scalar. Arguments as for the function `mask_loss`."""
        return mask_loss(self, mask_head, mask_predictor, features, images, image_shapes, targets)


class DynamicRoIHeads(TrainingRoIHeads):
    """torchvision's RoI heads; in training the IoU threshold and SmoothL1's beta come from Algorithm 1."""

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: Targets | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Losses in training, detections in testing.

        Args:
            features: the pyramid's levels, `[batch, channels, height, width]` each.
            proposals: `[num_proposals, 4]` an image, xyxy pixels of the resized image.
            image_shapes: height and width of each resized image.
            targets: `boxes` `[num_gt, 4]`, `labels` `[num_gt]` and, with a mask head, `masks`
                `[num_gt, height, width]` of each image; needed in training.
        """
        if not self.training:
            return super().forward(features, proposals, image_shapes, targets)
        self.check_targets(targets)
        assert targets is not None
        images = assign_and_sample(self, proposals, targets, self.dynamic.iou_threshold)
        self.dynamic.record(self.dynamic.measure(images, self.box_coder.weights))
        self.last_assignment = images

        boxes = [image.sampled_boxes for image in images]
        box_features = self.box_head(self.box_roi_pool(features, boxes, image_shapes))
        class_logits, box_regression = self.box_predictor(box_features)
        labels = torch.cat([image.labels for image in images])
        own_class = labels[:, None, None].expand(-1, 1, 4)
        offsets = box_regression.reshape(len(labels), -1, 4).gather(1, own_class)[:, 0]
        losses = self.box_losses(images, class_logits, offsets, self.box_coder, self.dynamic.smooth_l1_beta)
        if self.has_mask():
            losses["loss_mask"] = self.mask_loss(
                self.mask_head, self.mask_predictor, features, images, image_shapes, targets
            )
        return [], losses

    def postprocess_detections(
        self,
        class_logits: Tensor,
        box_regression: Tensor,
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Boxes, scores and labels of each image: torchvision's way unless Soft-NMS is on."""
        if self.config.test.soft_nms == "off":
            return super().postprocess_detections(class_logits, box_regression, proposals, image_shapes)
        candidates = self._candidates(class_logits, box_regression, proposals, image_shapes)
        return select_with_soft_nms(candidates, self.config)

    def candidates(
        self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> list[Candidates]:
        """Every proposal's refined box and score for each class, before any selection."""
        box_features = self.box_head(self.box_roi_pool(features, proposals, image_shapes))
        class_logits, box_regression = self.box_predictor(box_features)
        return self._candidates(class_logits, box_regression, proposals, image_shapes)

    def _candidates(
        self,
        class_logits: Tensor,
        box_regression: Tensor,
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> list[Candidates]:
        counts = [len(boxes) for boxes in proposals]
        # The coder leaves out the axis of the classes where there are no boxes at all.
        decoded = self.box_coder.decode(box_regression, proposals).view(*class_logits.shape, 4)
        boxes = decoded.split(counts)
        scores = F.softmax(class_logits, dim=-1).split(counts)
        return [
            Candidates.of_image(box[:, 1:], score[:, 1:], shape)
            for box, score, shape in zip(boxes, scores, image_shapes, strict=True)
        ]


def roi_head_settings(config: TrialConfig) -> dict[str, Any]:
    """The settings of torchvision's `RoIHeads` for a trial."""
    return {
        "fg_iou_thresh": config.dynamic.fixed_iou,
        "bg_iou_thresh": config.dynamic.fixed_iou,
        "bbox_reg_weights": None,
        "batch_size_per_image": config.model.rois_per_image,
        "positive_fraction": config.model.positive_fraction,
        "score_thresh": config.model.score_threshold,
        "nms_thresh": config.model.nms_iou,
        "detections_per_img": config.model.detections_per_image,
    }


def sample_proposals(labels: Tensor, sampler: BalancedPositiveNegativeSampler) -> Tensor:
    """What torchvision's sampler draws of an image, without its masks: on a GPU the host waits for those once more.

    Args:
        labels: `[num_proposals]`, 0 is background.
        sampler: says how many proposals to draw, and how many positives at most.

    Returns:
        `[num_sampled]`, ascending indices.
    """
    positive, negative = torch.where(labels >= 1)[0], torch.where(labels == 0)[0]
    num_positive = min(len(positive), int(sampler.batch_size_per_image * sampler.positive_fraction))
    num_negative = min(len(negative), sampler.batch_size_per_image - num_positive)
    drawn = [
        indices[torch.randperm(len(indices), device=labels.device)[:count]]
        for indices, count in ((positive, num_positive), (negative, num_negative))
    ]
    return torch.cat(drawn).sort().values


@torch.no_grad()
def assign_and_sample(
    heads: TrainingRoIHeads, proposals: list[Tensor], targets: Targets, iou_threshold: Tensor
) -> list[AssignedProposals]:
    """Append the ground truths to the proposals, label them and sample."""
    candidates, gt_boxes, matches, labels = [], [], [], []
    for boxes, target in zip(proposals, targets, strict=True):
        truth = target["boxes"].to(boxes.dtype)
        candidate = torch.cat([boxes, truth])
        background = torch.zeros(len(candidate), dtype=torch.int64, device=candidate.device)
        match, label = (
            heads.assign(candidate, truth, target["labels"], iou_threshold) if len(truth) else (None, background)
        )
        candidates.append(candidate)
        gt_boxes.append(truth)
        matches.append(match)
        labels.append(label)
    return [
        AssignedProposals(candidate, truth, match, sampled, label[sampled])
        for candidate, truth, match, sampled, label in zip(
            candidates, gt_boxes, matches, heads.sample(labels, matches), labels, strict=True
        )
    ]


def box_losses(
    images: list[AssignedProposals], class_logits: Tensor, offsets: Tensor, coder: BoxCoder, beta: Tensor
) -> dict[str, Tensor]:
    """Cross entropy over all sampled RoIs, and SmoothL1 over the positives (Paper: Eq. 5).

    Args:
        images: the assignment.
        class_logits: `[num_rois, num_classes]`, the background first.
        offsets: `[num_rois, 4]`, of each RoI's own class.
        coder: encodes the targets.
        beta: scalar tensor.

    Returns:
        `loss_classifier` and `loss_box_reg`, both per sampled RoI.
    """
    labels = torch.cat([image.labels for image in images])
    matched_boxes = torch.cat([image.matched_boxes[image.sampled] for image in images])
    targets = coder.encode_single(matched_boxes, torch.cat([image.sampled_boxes for image in images]))
    positive = (labels > 0)[:, None]
    # The target of a negative may be infinite: a cascade's boxes can have no width.
    errors = (offsets - torch.where(positive, targets, 0)).abs()
    box_loss = smooth_l1(errors, beta) * positive
    return {
        "loss_classifier": F.cross_entropy(class_logits, labels),
        "loss_box_reg": box_loss.sum() / labels.numel(),
    }


def mask_loss(
    heads: RoIHeads,
    mask_head: Any,
    mask_predictor: Any,
    features: dict[str, Tensor],
    images: list[AssignedProposals],
    image_shapes: list[tuple[int, int]],
    targets: Targets,
) -> Tensor:
    """Mask R-CNN's loss on the positives of this assignment, by torchvision's own function."""
    positives = [torch.where(image.labels > 0)[0] for image in images]
    boxes = [image.sampled_boxes[positive] for image, positive in zip(images, positives, strict=True)]
    matched = [
        image.match.gt_index[image.sampled][positive] if image.match else image.sampled[positive]
        for image, positive in zip(images, positives, strict=True)
    ]
    assert heads.mask_roi_pool is not None
    logits = mask_predictor(mask_head(heads.mask_roi_pool(features, boxes, image_shapes)))
    gt_masks = [target["masks"] for target in targets]
    gt_labels = [target["labels"] for target in targets]
    return maskrcnn_loss(at_least_float32(logits), boxes, gt_masks, gt_labels, matched)
