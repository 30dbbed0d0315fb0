"""ATSS (Zhang et al., CVPR 2020) on proposals: each ground truth has a threshold of its own, in place of T_now.

It is the mean and the standard deviation, added, of the IoUs of its nearest proposals.
"""

from torch import Tensor
from torchvision.ops import box_iou

from dynrcnn_ray.dynamic.boxes import Match
from dynrcnn_ray.models.roi_heads import DynamicRoIHeads

OPTIONS = {"nearest": 9}


class AtssRoIHeads(DynamicRoIHeads):
    def assign(
        self, proposals: Tensor, gt_boxes: Tensor, gt_labels: Tensor, iou_threshold: Tensor
    ) -> tuple[Match, Tensor]:
        match, _ = super().assign(proposals, gt_boxes, gt_labels, iou_threshold)
        of_rpn = proposals[: len(proposals) - len(gt_boxes)]
        shifts = (gt_boxes[:, None, :2] + gt_boxes[:, None, 2:]) - (of_rpn[:, :2] + of_rpn[:, 2:])
        count = min(self.config.model.option("nearest", OPTIONS), len(of_rpn))
        nearest = shifts.square().sum(dim=2).topk(count, largest=False).indices
        ious = box_iou(gt_boxes, of_rpn).gather(1, nearest)
        thresholds = ious.mean(dim=1) + ious.std(dim=1, correction=0)
        return match, gt_labels[match.gt_index] * (match.max_iou >= thresholds[match.gt_index])


ROI_HEADS = AtssRoIHeads
