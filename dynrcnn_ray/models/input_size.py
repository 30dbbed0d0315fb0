"""The size at which images enter the network: one in testing, one or several in training."""

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from dynrcnn_ray.config.sections import DataConfig

_IMAGENET_MEAN = [0.485, 0.456, 0.406]
_IMAGENET_STD = [0.229, 0.224, 0.225]


class InputSizeTransform(GeneralizedRCNNTransform):
    """torchvision's transform, which knows one size, with a size for training and one for testing.

    In multi-scale training each image's short side comes with its target: the sampler draws it, so that it depends on
    the seed and the step alone.
    """

    def __init__(self, data: DataConfig) -> None:
        """Take the sizes from a data section."""
        super().__init__(data.short_side, data.long_side, _IMAGENET_MEAN, _IMAGENET_STD)
        self.test_size = (data.short_side, data.long_side)
        self._multi_scale_long_side = data.train_long_side

    def resize(self, image: Tensor, target: dict[str, Any] | None = None) -> tuple[Tensor, Any]:
        """Resize `[3, height, width]` and its target."""
        short_side, long_side = self.test_size
        if self.training and target and target.get("short_side"):
            short_side, long_side = target["short_side"], self._multi_scale_long_side
        self.min_size, self.max_size = (short_side,), long_side
        return super().resize(image, target)

    def batch_images(self, images: list[Tensor], size_divisible: int = 32) -> Tensor:
        """`[batch, 3, height, width]`, in testing on a CPU with the channels last in memory.

        Each layer up to the pyramid keeps that layout, in which its convolutions and the RoIs' pooling are faster.
        """
        batch = super().batch_images(images, size_divisible)
        if self.training or batch.device.type != "cpu":
            return batch
        return batch.contiguous(memory_format=torch.channels_last)
