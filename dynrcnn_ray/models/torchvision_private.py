"""All that is used of torchvision and is not its public API. Torchvision is pinned to one minor release.

Its own detectors are built of these; others in their place would change the bits of a trial.
"""

from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, encode_boxes
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops.poolers import _setup_scales as scales_and_levels

__all__ = [
    "BalancedPositiveNegativeSampler",
    "BoxCoder",
    "best_anchors",
    "encode_boxes",
    "numbers_of_proposals",
    "scales_and_levels",
]


def numbers_of_proposals(rpn: RegionProposalNetwork) -> tuple[dict[str, int], dict[str, int]]:
    """How many proposals an RPN takes before its NMS, and after it; each in training and in testing."""
    return rpn._pre_nms_top_n, rpn._post_nms_top_n


def best_anchors(rpn: RegionProposalNetwork, objectness: Tensor, num_anchors_per_level: list[int]) -> Tensor:
    """Each level's anchors of the highest scores, as many as the RPN's NMS takes.

    Args:
        rpn: whose NMS.
        objectness: `[batch, num_anchors]`, logits.
        num_anchors_per_level: they add up to `num_anchors`.

    Returns:
        `[batch, num_kept]`, indices of anchors.
    """
    return rpn._get_top_n_idx(objectness, num_anchors_per_level)
