"""Boxes: matching proposals to ground truths, labels, and the error of a proposal. All boxes are xyxy pixels."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_area, box_iou


class Match(NamedTuple):
    """The best ground truth of each of an image's proposals.

    Attributes:
        max_iou: `[num_proposals]`, IoU with the best ground truth; max IoU(b, G) of the paper.
        gt_index: `[num_proposals]`, index of that ground truth.
    """

    max_iou: Tensor
    gt_index: Tensor


def match_proposals(proposals: Tensor, gt_boxes: Tensor) -> Match:
    """Match every proposal to the ground truth that it overlaps most.

    Args:
        proposals: `[num_proposals, 4]`.
        gt_boxes: `[num_gt, 4]`, at least one.
    """
    return Match(*box_iou(gt_boxes, proposals).max(dim=0))


def assign_labels(match: Match, gt_labels: Tensor, iou_threshold: Tensor) -> Tensor:
    """Label a proposal with its ground truth's class if they overlap enough, else 0 (Paper: Eq. 1 and 3).

    One threshold separates positives from negatives, so no proposal is ignored.

    Args:
        match: the proposals' best ground truths.
        gt_labels: `[num_gt]`, classes from 1.
        iou_threshold: scalar tensor, T_now.

    Returns:
        `[num_proposals]`, int64.
    """
    return gt_labels[match.gt_index] * (match.max_iou >= iou_threshold)


def centre_errors(proposals: Tensor, targets: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Error of each proposal: the mean of |dx| and |dy| towards its target (Paper: Eq. 2).

    Args:
        proposals: `[num_proposals, 4]`.
        targets: `[num_proposals, 4]`, the ground truth of each.
        weights: the box coder's weights for x, y, w, h; those of x and y normalise the error.

    Returns:
        `[num_proposals]`, in units of the normalised offset.
    """
    sizes = proposals[:, 2:] - proposals[:, :2]
    # Twice the centres, each rounded in the same way: a proposal on its target has an error of exactly zero.
    shifts = (targets[:, :2] + targets[:, 2:]) - (proposals[:, :2] + proposals[:, 2:])
    dx, dy = (shifts / (2 * sizes)).abs().unbind(dim=1)
    return (weights[0] * dx + weights[1] * dy) / 2


def paired_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU of each box with the other box of the same row.

    Args:
        boxes: `[n, 4]`.
        others: `[n, 4]`.

    Returns:
        `[n]`.
    """
    overlap_sizes = torch.minimum(boxes[:, 2:], others[:, 2:]) - torch.maximum(boxes[:, :2], others[:, :2])
    overlap = overlap_sizes.clamp(min=0).prod(dim=1)
    return overlap / (box_area(boxes) + box_area(others) - overlap)


def smooth_l1(errors: Tensor, beta: Tensor) -> Tensor:
    """SmoothL1 of absolute errors, for a beta that lives on the device (Paper: Eq. 4 and 5).

    Quadratic below beta, linear above: `0.5 e^2 / beta` and `e - 0.5 beta`.

    Args:
        errors: absolute errors of any shape.
        beta: scalar tensor, beta_now.
    """
    quadratic_part = torch.minimum(errors, beta)
    return 0.5 * quadratic_part.square() / beta + (errors - quadratic_part)
