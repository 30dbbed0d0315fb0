"""The size at which images enter the network: one in testing, one or several in training."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate
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
        if not self.training and target is None:
            size = resized_size(image, *self.test_size)
            return interpolate(image[None], size=size, mode="bilinear", align_corners=False)[0], None
        short_side, long_side = self.test_size
        if self.training and target and target.get("short_side"):
            short_side, long_side = target["short_side"], self._multi_scale_long_side
        self.min_size, self.max_size = (short_side,), long_side
        # torchvision's draws a number as well, on which a trial's next draws depend.
        return super().resize(image, target)

    def batch_images(self, images: list[Tensor], size_divisible: int = 32) -> Tensor:
        """`[batch, 3, height, width]`, in testing on a CPU with the channels last in memory.

        Each layer up to the pyramid keeps that layout, in which its convolutions and the RoIs' pooling are faster.
        """
        batch = super().batch_images(images, size_divisible)
        if self.training or batch.device.type != "cpu":
            return batch
        return batch.contiguous(memory_format=torch.channels_last)


def resized_size(image: Tensor, short_side: int, long_side: int) -> list[Any]:
    """Height and width at which an image enters the network in testing: torchvision's, and at least one pixel.

    While a graph is traced they are tensors, of the same operations in the same precision: torchvision's own graph
    computes in float32, and is one pixel off for every sixth size.

    Args:
        image: `[..., height, width]`.
        short_side: what its short side becomes ...
        long_side: ... unless the long side would then exceed this.
    """
    if not torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        height, width = image.shape[-2:]
        scale = min(short_side / min(height, width), long_side / max(height, width))
        return [max(1, int(height * scale)), max(1, int(width * scale))]
    # A shape that is traced is a tensor of no dimensions an axis.
    sizes = torch.stack([torch.as_tensor(side) for side in image.shape[-2:]])
    return list(traced_sizes(sizes, short_side, long_side))


def traced_sizes(sizes: Tensor, short_side: int, long_side: int) -> Tensor:
    """The same of `[..., 2]` heights and widths, as a graph computes it."""
    # Divisions of two tensors: PyTorch divides a number by a tensor through the reciprocal, which rounds twice.
    limits = [torch.tensor(float(side), dtype=torch.float64) for side in (short_side, long_side)]
    sides = sizes.to(torch.float64)
    shortest, longest = sides.amin(dim=-1, keepdim=True), sides.amax(dim=-1, keepdim=True)
    scale = torch.minimum(limits[0] / shortest, limits[1] / longest)
    return (sides * scale).floor().clamp(min=1).to(torch.int64)
