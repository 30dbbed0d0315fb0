"""Soft-NMS (Bodla et al., ICCV 2017): overlapping detections lose score instead of being dropped."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Decay = Literal["linear", "gaussian"]


class KeptDetections(NamedTuple):
    """What Soft-NMS leaves of one image, by falling score.

    Attributes:
        boxes: `[num_kept, 4]`, xyxy pixels.
        scores: `[num_kept]`, after the decay.
        labels: `[num_kept]`, the class; numbered as the input's classes.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    *,
    decay: Decay,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    max_detections: int,
) -> KeptDetections:
    """Soft-NMS for each class by itself, then the best detections over all classes.

    All classes advance together, one detection a round. A class's detections come out by falling score, so no class
    can have more than `max_detections` among the best: that many rounds give the exact result.

    Args:
        boxes: `[num_classes, num_boxes, 4]`, xyxy pixels.
        scores: `[num_classes, num_boxes]`, not negative.
        decay: `linear` multiplies a score by `1 - IoU` where the IoU exceeds `iou_threshold`; `gaussian` by
            `exp(-IoU^2 / sigma)`.
        iou_threshold: of the linear decay.
        sigma: of the Gaussian decay.
        min_score: detections that fall below it are dropped.
        max_detections: how many to return at most.
    """
    # Most boxes have a score in few classes: as many columns as the fullest class needs.
    num_columns = int((scores >= min_score).sum(dim=1).max())
    scores, columns = scores.topk(num_columns, dim=1)
    boxes = boxes.gather(1, columns[:, :, None].expand(-1, -1, 4))

    num_classes = len(boxes)
    rounds = min(max_detections, num_columns)
    remaining = torch.where(scores >= min_score, scores, 0)
    left, top, right, bottom = boxes.unbind(dim=2)
    areas = (right - left) * (bottom - top)
    picked_scores = scores.new_zeros(num_classes, rounds)
    picked_indices = torch.zeros(num_classes, rounds, dtype=torch.int64, device=boxes.device)
    for round_index in range(rounds):
        best_score, best = remaining.max(dim=1, keepdim=True)
        picked_scores[:, round_index] = best_score[:, 0]
        picked_indices[:, round_index] = best[:, 0]
        width = torch.minimum(right, right.gather(1, best)) - torch.maximum(left, left.gather(1, best))
        height = torch.minimum(bottom, bottom.gather(1, best)) - torch.maximum(top, top.gather(1, best))
        overlap = width.clamp_(min=0) * height.clamp_(min=0)
        # Two boxes without area have no union either.
        iou = overlap / (areas + areas.gather(1, best) - overlap).clamp_(min=torch.finfo(overlap.dtype).tiny)
        if decay == "linear":
            remaining *= torch.where(iou > iou_threshold, 1 - iou, 1)
        else:
            remaining *= torch.exp(-iou.square() / sigma)
        remaining.scatter_(1, best, 0)

    flat_scores, order = picked_scores.flatten().topk(min(max_detections, num_classes * rounds))
    order = order[(flat_scores >= min_score) & (flat_scores > 0)]
    labels = order // rounds
    indices = picked_indices.flatten()[order]
    return KeptDetections(boxes[labels, indices], picked_scores.flatten()[order], labels)
