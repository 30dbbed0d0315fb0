"""The RPN's proposals, chosen by an NMS that looks no further down the scores than it must.

At the paper's IoU of 0.85 it drops a box in fifty, and of some thousand boxes the best few hundred are wanted: whatever
comes after the last of these decides nothing, as a box is only ever dropped for one with a higher score. On a GPU
torchvision's NMS of all boxes was two fifths of the time that the card was busy in a training step.
"""

import math

import torch
from torch import Tensor
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import batched_nms, clip_boxes_to_image, nms

from dynrcnn_ray.models.torchvision_private import best_anchors, numbers_of_proposals

_FIRST_SHARE = 1.5
"""The NMS begins with so many boxes for each that is wanted."""
_FEW = 1000
"""So few boxes are left to torchvision, which on a CPU moves the levels apart instead of taking one after the other."""


class BestFirstRPN(RegionProposalNetwork):
    """torchvision's RPN with the same proposals: the same bits on a CPU, within the rounding of their IoU on a GPU.

    Those of one score stand in the order of their index. Torchvision's order then depends on the CPU's sort.
    """

    @classmethod
    def of(cls, rpn: RegionProposalNetwork) -> "BestFirstRPN":
        """One with the settings and the modules of torchvision's."""
        return cls(
            rpn.anchor_generator,
            rpn.head,
            rpn.proposal_matcher.high_threshold,
            rpn.proposal_matcher.low_threshold,
            rpn.fg_bg_sampler.batch_size_per_image,
            rpn.fg_bg_sampler.positive_fraction,
            *numbers_of_proposals(rpn),
            rpn.nms_thresh,
            rpn.score_thresh,
        )

    def filter_proposals(
        self,
        proposals: Tensor,
        objectness: Tensor,
        image_shapes: list[tuple[int, int]],
        num_anchors_per_level: list[int],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The best proposals of each image, and their scores, in descending order.

        Args:
            proposals: `[batch, num_anchors, 4]`, xyxy pixels.
            objectness: `[batch * num_anchors, 1]`, logits.
            image_shapes: height and width of each image.
            num_anchors_per_level: they add up to `num_anchors`.

        Returns:
            `[num_kept, 4]` and `[num_kept]` of each image.
        """
        if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
            return super().filter_proposals(proposals, objectness, image_shapes, num_anchors_per_level)
        objectness = objectness.detach().reshape(len(proposals), -1)
        candidates = best_anchors(self, objectness, num_anchors_per_level)
        ends = torch.tensor(num_anchors_per_level, device=objectness.device).cumsum(0)
        levels = torch.bucketize(candidates, ends, right=True)
        scores = objectness.gather(1, candidates).sigmoid()
        boxes = proposals.gather(1, candidates[..., None].expand(-1, -1, 4))
        kept = [
            self._best_of_image(clip_boxes_to_image(box, shape), score, level)
            for box, score, level, shape in zip(boxes, scores, levels, image_shapes, strict=True)
        ]
        return [box for box, _ in kept], [score for _, score in kept]

    def _best_of_image(self, boxes: Tensor, scores: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
        is_large = (boxes[:, 2:] - boxes[:, :2] >= self.min_size).all(dim=1)
        usable = torch.where(is_large & (scores >= self.score_thresh))[0]
        boxes, scores, levels = boxes[usable], scores[usable], levels[usable]
        best = best_first_nms(boxes, scores, levels, self.nms_thresh, self.post_nms_top_n())
        return boxes[best], scores[best]


def best_first_nms(boxes: Tensor, scores: Tensor, levels: Tensor, iou_threshold: float, wanted: int) -> Tensor:
    """NMS within each level, as far down the scores as `wanted` boxes take.

    Args:
        boxes: `[n, 4]`, xyxy.
        scores: `[n]`.
        levels: `[n]`; boxes of different levels do not suppress each other.
        iou_threshold: a box that overlaps a better one by more is dropped.
        wanted: at most so many are returned.

    Returns:
        `[num_kept]`, indices in descending order of the scores.
    """
    first = math.ceil(_FIRST_SHARE * wanted)
    if first < len(scores) and len(scores) > _FEW:
        order = scores.sort(descending=True, stable=True).indices[:first]
        kept = _nms_in_order(boxes[order], scores[order], levels[order], iou_threshold)
        if len(kept) >= wanted:
            return order[kept[:wanted]]
    return batched_nms(boxes, scores, levels, iou_threshold)[:wanted]


def _nms_in_order(boxes: Tensor, scores: Tensor, levels: Tensor, iou_threshold: float) -> Tensor:
    """NMS of boxes in descending order of their scores: as torchvision goes about it on each device.

    Returns:
        `[num_kept]`, ascending.
    """
    if boxes.device.type != "cpu":
        return batched_nms(boxes, scores, levels, iou_threshold)
    is_kept = torch.zeros_like(scores, dtype=torch.bool)
    for level in levels.unique():
        of_level = torch.where(levels == level)[0]
        is_kept[of_level[nms(boxes[of_level], scores[of_level], iou_threshold)]] = True
    return torch.where(is_kept)[0]
