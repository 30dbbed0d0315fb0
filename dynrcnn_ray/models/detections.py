"""From candidates to detections: the final NMS, per class, or Soft-NMS in its place."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.models.soft_nms import soft_nms

_SMALLEST_SIDE = 1e-2
"""Pixels; torchvision drops what is smaller."""


class Candidates(NamedTuple):
    """One image's boxes before selection: each proposal with a box and a score for each class.

    Attributes:
        boxes: `[num_proposals, num_classes, 4]`, xyxy pixels; the background is no class here.
        scores: `[num_proposals, num_classes]`.
    """

    boxes: Tensor
    scores: Tensor

    @classmethod
    def of_image(cls, boxes: Tensor, scores: Tensor, image_shape: tuple[int, int]) -> "Candidates":
        """Candidates whose boxes are clipped to an image of this height and width."""
        return cls(clip_boxes_to_image(boxes, image_shape), scores)


def select(candidates: Sequence[Candidates], config: TrialConfig) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """The detections of each image, by falling score: boxes `[n, 4]`, scores `[n]` and labels `[n]` from 1."""
    if config.test.soft_nms == "off":
        return _select_with_nms(candidates, config)
    return select_with_soft_nms(candidates, config)


def select_with_soft_nms(
    candidates: Sequence[Candidates], config: TrialConfig
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Like `select`, with the configured Soft-NMS."""
    assert config.test.soft_nms != "off"
    selected = []
    for boxes, scores in candidates:
        selected.append(
            soft_nms(
                boxes.transpose(0, 1),
                torch.where(_is_large(boxes), scores, 0).T,
                decay=config.test.soft_nms,
                iou_threshold=config.test.soft_nms_iou,
                sigma=config.test.soft_nms_sigma,
                min_score=config.test.soft_nms_min_score,
                max_detections=config.model.detections_per_image,
            )
        )
    return (
        [kept.boxes for kept in selected],
        [kept.scores for kept in selected],
        [kept.labels + 1 for kept in selected],
    )


def _select_with_nms(
    candidates: Sequence[Candidates], config: TrialConfig
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """As torchvision does after the box head."""
    all_boxes, all_scores, all_labels = [], [], []
    for boxes, scores in candidates:
        rows, classes = torch.where((scores > config.model.score_threshold) & _is_large(boxes))
        kept_boxes, kept_scores = boxes[rows, classes], scores[rows, classes]
        keep = batched_nms(kept_boxes, kept_scores, classes, config.model.nms_iou)
        keep = keep[: config.model.detections_per_image]
        all_boxes.append(kept_boxes[keep])
        all_scores.append(kept_scores[keep])
        all_labels.append(classes[keep] + 1)
    return all_boxes, all_scores, all_labels


def _is_large(boxes: Tensor) -> Tensor:
    """Whether each box of `[..., 4]` has the sides that a detection needs."""
    return ((boxes[..., 2:] - boxes[..., :2]) >= _SMALLEST_SIDE).all(dim=-1)
