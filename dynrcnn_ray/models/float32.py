"""What stays float32 under mixed precision: anchors, and what the heads predict. A model in float64 stays float64.

torchvision places anchors in the precision of the features, and decodes boxes in that of the predictions. bfloat16 has
eight bits: between 512 and 1024 pixels it knows the multiples of 4 alone.
"""

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.rpn import RPNHead


def at_least_float32(x: Tensor) -> Tensor:
    """The same in float32, if its own type is shorter."""
    return x if x.dtype.itemsize >= torch.float32.itemsize else x.float()


class Float32AnchorGenerator(AnchorGenerator):
    """torchvision's anchors, in float32 whatever the features are."""

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """The anchors of each image, `[num_anchors, 4]`."""
        # torchvision looks at the shape, type and device of the features alone: one number stands for all of them.
        number = feature_maps[0].new_empty((), dtype=torch.float32)
        return super().forward(image_list, [number.expand(level.shape) for level in feature_maps])


class Float32RPNHead(RPNHead):
    """torchvision's RPN head with float32 outputs."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness and offsets of each level."""
        objectness, offsets = super().forward(x)
        return [at_least_float32(level) for level in objectness], [at_least_float32(level) for level in offsets]


class Float32BoxPredictor(FastRCNNPredictor):
    """torchvision's box predictor with float32 outputs."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Class scores and box offsets of each RoI."""
        scores, offsets = super().forward(x)
        return at_least_float32(scores), at_least_float32(offsets)


class Float32RetinaNetHead(RetinaNetHead):
    """torchvision's RetinaNet head with float32 outputs."""

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """Class logits and box offsets of each anchor."""
        return {name: at_least_float32(output) for name, output in super().forward(x).items()}


class Float32FCOSHead(FCOSHead):
    """torchvision's FCOS head with float32 outputs."""

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """Class logits, box offsets and centre-ness of each location."""
        return {name: at_least_float32(output) for name, output in super().forward(x).items()}
