"""Multi-scale testing: an image at several sizes, each with its mirror image, and one NMS over all their boxes."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN
from torchvision.ops import clip_boxes_to_image

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.models.cascade import CascadeRoIHeads
from dynrcnn_ray.models.detections import Candidates, select
from dynrcnn_ray.models.input_size import InputSizeTransform
from dynrcnn_ray.models.roi_heads import DynamicRoIHeads

Size = tuple[int, int]
"""Short side and limit of the long side, in pixels."""


def detect_multi_scale(model: FasterRCNN, images: list[Tensor], config: TrialConfig) -> list[dict[str, Tensor]]:
    """Detect at the sizes of the configuration.

    Args:
        model: a detector of boxes in testing mode.
        images: `[3, height, width]` each, 0 to 1.
        config: the trial; its `data` and `test` sections give the sizes.

    Returns:
        `boxes`, `scores` and `labels` of each image, in its own pixels.
    """
    data, test = config.data, config.test
    sizes = [(data.short_side, data.long_side)]
    sizes += [(short, test.multi_scale_long_side) for short in test.multi_scale_short_sides]
    return [detect_at_sizes(model, image, config, sizes=sizes, mirrored=(False, True)) for image in images]


def detect_at_sizes(
    model: FasterRCNN, image: Tensor, config: TrialConfig, *, sizes: Sequence[Size], mirrored: Sequence[bool]
) -> dict[str, Tensor]:
    """Detect in one image at each size, as it is or mirrored, and select once from all candidates."""
    passes = list(_candidates_of_passes(model, image, sizes, mirrored))
    everything = Candidates(*(torch.cat(parts) for parts in zip(*passes, strict=True)))
    boxes, scores, labels = select([everything], config)
    return {"boxes": boxes[0], "scores": scores[0], "labels": labels[0]}


def _candidates_of_passes(
    model: FasterRCNN, image: Tensor, sizes: Sequence[Size], mirrored: Sequence[bool]
) -> Iterator[Candidates]:
    transform, heads = model.transform, model.roi_heads
    assert isinstance(transform, InputSizeTransform)
    assert isinstance(heads, DynamicRoIHeads | CascadeRoIHeads)
    plain_size = transform.test_size
    height, width = image.shape[1:]
    try:
        for size in sizes:
            transform.test_size = size
            for mirror in mirrored:
                resized, _ = transform([image.flip(2) if mirror else image])
                features = model.backbone(resized.tensors)
                proposals, _ = model.rpn(resized, features)
                ((boxes, scores),) = heads.candidates(features, proposals, resized.image_sizes)
                (resized_height, resized_width) = resized.image_sizes[0]
                ratios = boxes.new_tensor([width / resized_width, height / resized_height]).repeat(2)
                boxes = boxes * ratios
                if mirror:
                    left, top, right, bottom = boxes.unbind(dim=2)
                    boxes = torch.stack([width - right, top, width - left, bottom], dim=2)
                yield Candidates(clip_boxes_to_image(boxes, (height, width)), scores)
    finally:
        transform.test_size = plain_size
