"""The size at which images enter the network: one in testing, one or several in training."""

from typing import Any

from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from dynrcnn_ray.config import DataConfig

_IMAGENET_MEAN = [0.485, 0.456, 0.406]
_IMAGENET_STD = [0.229, 0.224, 0.225]


class InputSizeTransform(GeneralizedRCNNTransform):
    """torchvision's transform, which knows one limit of the long side, with a limit for training and one for testing.

    In multi-scale training each image draws its short side; the draw follows from the seed of the step.
    """

    def __init__(self, data: DataConfig) -> None:
        """Take the sizes from a data section."""
        super().__init__(data.short_side, data.long_side, _IMAGENET_MEAN, _IMAGENET_STD)
        self.test_size = (data.short_side, data.long_side)
        self._train_short_sides = data.train_short_sides or (data.short_side,)
        self._train_long_side = data.train_long_side if data.train_short_sides else data.long_side

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, Any]:
        """Resize `[3, height, width]` and its target."""
        if self.training:
            self.min_size, self.max_size = self._train_short_sides, self._train_long_side
        else:
            self.min_size, self.max_size = (self.test_size[0],), self.test_size[1]
        return super().resize(image, target)
