"""The proposals' statistics I_k and E_k (Paper: Algorithm 1) in three conventions.

`paper` has one value an image; `mmdetection` and `released` are what these implementations compute on one GPU,
whose part a shard has here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dynrcnn_ray.dynamic.boxes import centre_errors, paired_iou
from dynrcnn_ray.dynamic.proposals import AssignedProposals


@dataclass(frozen=True)
class ProposalStatistics:
    """One step's measurements of one shard.

    The convention `paper` gives one value an image, the other two give one value a shard.

    Attributes:
        ious: `[num_values]`, I_k.
        errors: `[num_values]`, E_k.
        valid: `[num_values]`, bool; false where no proposal was positive, so that there was nothing to measure.
    """

    ious: Tensor
    errors: Tensor
    valid: Tensor


def _measure_paper(
    images: Sequence[AssignedProposals], weights: tuple[float, ...], threshold: Tensor, iou_top_k: int, beta_top_k: int
) -> ProposalStatistics:
    """Per image: the K_I-th largest IoU, and the K_beta-th smallest error of the positives."""
    every_error = centre_errors(*_joined(images), weights)
    of_images = every_error.split([len(image.proposals) for image in images])
    errors = pad_sequence(list(of_images), batch_first=True)
    max_ious = _padded_max_ious(images)
    error = _kth_smallest(errors, max_ious >= threshold, beta_top_k)
    return ProposalStatistics(ious=_kth_largest(max_ious, iou_top_k), errors=error, valid=error.isfinite())


def _measure_mmdetection(
    images: Sequence[AssignedProposals], weights: tuple[float, ...], threshold: Tensor, iou_top_k: int, beta_top_k: int
) -> ProposalStatistics:
    """Per shard: the images' mean K_I-th largest IoU, and an order statistic over all sampled positives' errors."""
    matched = [image for image in images if image.match is not None]
    if not matched:
        return _nothing_measured(threshold)
    iou = _kth_largest(_padded_max_ious(matched), iou_top_k).mean(dim=0, keepdim=True)
    targets = torch.cat([image.matched_boxes[image.sampled] for image in matched])
    errors = centre_errors(torch.cat([image.sampled_boxes for image in matched]), targets, weights)
    positive = torch.cat([image.labels for image in matched]) > 0
    error = _kth_smallest(errors[None], positive[None], beta_top_k * len(images))
    return ProposalStatistics(iou, error, valid=error.isfinite())


def _measure_released(
    images: Sequence[AssignedProposals], weights: tuple[float, ...], threshold: Tensor, iou_top_k: int, beta_top_k: int
) -> ProposalStatistics:
    """Per shard: order statistics over all raw proposals, with the matches of the released code.

    There a proposal below the threshold counts as matched to ground truth number 0: its index -1 was clamped.
    """
    matched = [image for image in images if image.match is not None]
    if not matched:
        return _nothing_measured(threshold)
    proposals, boxes = _joined(matched)
    first_boxes = torch.cat([image.gt_boxes[:1].expand_as(image.proposals) for image in matched])
    positive = torch.cat([image.match.max_iou for image in matched if image.match]) >= threshold
    boxes = torch.where(positive[:, None], boxes, first_boxes)
    ious, errors = paired_iou(proposals, boxes)[None], centre_errors(proposals, boxes, weights)[None]
    error = _kth_smallest(errors, torch.ones_like(errors, dtype=torch.bool), beta_top_k * len(images))
    return ProposalStatistics(_kth_largest(ious, iou_top_k * len(images)), error, valid=positive.any()[None])


MEASURES = {"paper": _measure_paper, "mmdetection": _measure_mmdetection, "released": _measure_released}


def _joined(images: Sequence[AssignedProposals]) -> tuple[Tensor, Tensor]:
    """All images' proposals and their matched boxes, `[all_proposals, 4]` each."""
    return torch.cat([image.proposals for image in images]), torch.cat([image.matched_boxes for image in images])


def _padded_max_ious(images: Sequence[AssignedProposals]) -> Tensor:
    """Each image's `max_iou` in a row of `[num_images, most_proposals]`, -1 where there is none."""
    max_ious = [
        image.match.max_iou if image.match else image.proposals.new_full((len(image.proposals),), -1)
        for image in images
    ]
    return pad_sequence(max_ious, batch_first=True, padding_value=-1)


def _kth_largest(ious: Tensor, k: int) -> Tensor:
    """The k-th largest IoU of each row of `[rows, n]`, or the smallest if there are fewer; -1 is no IoU. `[rows]`."""
    return -_kth_smallest(-ious, ious >= 0, k)


def _kth_smallest(values: Tensor, counted: Tensor, k: int) -> Tensor:
    """The k-th smallest of the counted ones in each row of `[rows, n]`, or their largest if they are fewer. `[rows]`.

    How many count is known on the device alone, so the place to read is computed there. Infinite if none counts.
    """
    rows, most = values.shape
    if not most:
        return values.new_full((rows,), torch.inf)
    smallest = torch.where(counted, values, torch.inf).topk(min(k, most), largest=False).values
    place = counted.sum(dim=1, keepdim=True).clamp(min=1, max=smallest.shape[1]) - 1
    return smallest.gather(1, place)[:, 0]


def _nothing_measured(like: Tensor) -> ProposalStatistics:
    nothing = torch.zeros_like(like)[None]
    return ProposalStatistics(nothing, nothing, valid=nothing > 0)
