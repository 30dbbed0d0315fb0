"""One image's proposals after assignment and sampling: what Algorithm 1 measures."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from dynrcnn_ray.dynamic.boxes import Match


@dataclass(frozen=True)
class AssignedProposals:
    """One image's proposals after assignment and sampling.

    Attributes:
        proposals: `[num_proposals, 4]`, xyxy pixels: the RPN's, then the image's ground truths.
        gt_boxes: `[num_gt, 4]`.
        match: each proposal's best ground truth; `None` for an image without ground truth.
        sampled: `[num_sampled]`, indices of the proposals sampled for the loss.
        labels: `[num_sampled]`, their classes; 0 is background.
    """

    proposals: Tensor
    gt_boxes: Tensor
    match: Match | None
    sampled: Tensor
    labels: Tensor

    @cached_property
    def matched_boxes(self) -> Tensor:
        """Each proposal's best ground truth, `[num_proposals, 4]`; the proposal itself where the image has none."""
        return self.proposals if self.match is None else self.gt_boxes[self.match.gt_index]

    @cached_property
    def sampled_boxes(self) -> Tensor:
        """The sampled proposals, `[num_sampled, 4]`."""
        return self.proposals[self.sampled]

    def without_ground_truths(self) -> "AssignedProposals":
        """The RPN's proposals alone. A sampled ground truth becomes background, so that its error does not count."""
        count = len(self.proposals) - len(self.gt_boxes)
        if self.match is None or not count:
            return replace(self, proposals=self.proposals[:count], match=None)
        return replace(
            self,
            proposals=self.proposals[:count],
            match=Match(self.match.max_iou[:count], self.match.gt_index[:count]),
            sampled=self.sampled.clamp(max=count - 1),
            labels=torch.where(self.sampled < count, self.labels, 0),
        )
