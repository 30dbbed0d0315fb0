"""RoIAlign over the pyramid with a backward pass that is fast on a CPU.

RoIAlign is linear in the features and separable: along each axis a pooled cell is a weighted sum of a few rows or
columns. So its gradient is two matrix products. torchvision's CPU kernel scatters value by value instead, and takes
almost half of a training step at small image sizes.
"""

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

_LARGEST_MAP = 64 * 64
"""Cells of the largest feature map for which the products beat the scattering kernel."""


class FastBackwardRoIAlign(MultiScaleRoIAlign):
    """torchvision's `MultiScaleRoIAlign`. In training on a CPU with small maps it takes the fast backward pass."""

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Pool each RoI from its level.

        Args:
            x: feature maps by name, `[batch, channels, height, width]`.
            boxes: `[num_rois, 4]` an image, xyxy pixels of the input images.
            image_shapes: height and width of each input image.

        Returns:
            `[all_rois, channels, size, size]`.
        """
        features = [x[name] for name in self.featmap_names]
        is_small = features[0].shape[2] * features[0].shape[3] <= _LARGEST_MAP
        if self.training and is_small and features[0].device.type == "cpu":
            return _PoolWithFastBackward.apply(self, boxes, image_shapes, *features)  # pyright: ignore[reportReturnType]
        return super().forward(x, boxes, image_shapes)


class _PoolWithFastBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, pool: MultiScaleRoIAlign, boxes: list[Tensor], image_shapes: list[tuple[int, int]], *features: Tensor
    ) -> Tensor:
        ctx.pool, ctx.boxes, ctx.features = pool, boxes, features
        by_name = dict(zip(pool.featmap_names, features, strict=True))
        return MultiScaleRoIAlign.forward(pool, by_name, boxes, image_shapes)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        pool, boxes = ctx.pool, ctx.boxes
        gradients = [torch.zeros_like(level, memory_format=torch.contiguous_format) for level in ctx.features]
        levels = pool.map_levels(boxes)
        counts = [len(boxes_in_image) for boxes_in_image in boxes]
        per_image = zip(boxes, levels.split(counts), grad_outputs[0].split(counts), strict=True)
        for image, (boxes_in_image, levels_in_image, grad_in_image) in enumerate(per_image):
            for level, (gradient, scale) in enumerate(zip(gradients, pool.scales, strict=True)):
                chosen = torch.where(levels_in_image == level)[0]
                if len(chosen):
                    gradient[image] = _pooling_gradient(
                        grad_in_image[chosen].to(gradient.dtype),
                        boxes_in_image[chosen] * scale,
                        gradient.shape[2:],
                        pool.sampling_ratio,
                    )
        return (None, None, None, *gradients)


def _pooling_gradient(grad: Tensor, rois: Tensor, map_size: torch.Size, sampling_ratio: int) -> Tensor:
    """Gradient of one image's feature map.

    Args:
        grad: `[num_rois, channels, size, size]`, of the pooled cells.
        rois: `[num_rois, 4]`, xyxy in cells of the map.
        map_size: height and width of the map.
        sampling_ratio: samples a pooled cell and axis.

    Returns:
        `[channels, height, width]`.
    """
    num_rois, channels, size, _ = grad.shape
    height, width = map_size
    rows = _cell_weights(rois[:, 1], rois[:, 3], size, height, sampling_ratio)
    columns = _cell_weights(rois[:, 0], rois[:, 2], size, width, sampling_ratio)
    by_pooled_row = grad.transpose(1, 2).reshape(num_rois, size * channels, size)
    spread_over_columns = by_pooled_row.bmm(columns.to(grad.dtype)).view(num_rois * size, channels * width)
    spread = rows.to(grad.dtype).view(num_rois * size, height).T @ spread_over_columns
    return spread.view(height, channels, width).transpose(0, 1)


def _cell_weights(start: Tensor, end: Tensor, size: int, length: int, sampling_ratio: int) -> Tensor:
    """How much each of `length` rows (or columns) of the map counts in each pooled one: `[num_rois, size, length]`."""
    cell = (end - start).clamp(min=1) / size
    samples = (torch.arange(size * sampling_ratio, dtype=start.dtype, device=start.device) + 0.5) / sampling_ratio
    places = start[:, None] + samples * cell[:, None]
    inside = (places >= -1) & (places <= length)
    distances = (places.clamp(0, length - 1)[:, :, None] - torch.arange(length, device=start.device)).abs()
    weights = (1 - distances).clamp(min=0) * inside[:, :, None]
    return weights.view(len(start), size, sampling_ratio, length).mean(dim=2)
