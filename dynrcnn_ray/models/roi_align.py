"""RoIAlign over the pyramid as weighted sums: fast on a CPU, above all backward, and deterministic everywhere.

RoIAlign is linear in the features: each pooled value is a weighted sum of a few cells, and so is the gradient of each
cell a weighted sum of pooled values. `embedding_bag` computes such sums for all channels at once. torchvision's CPU
kernel gathers and scatters value by value instead, and took a quarter of a training step. That of a GPU adds up the
gradients in any order.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from dynrcnn_ray.models.torchvision_private import scales_and_levels


class RoIAlignBySums(MultiScaleRoIAlign):
    """torchvision's `MultiScaleRoIAlign`, as weighted sums where those are wanted; equal within rounding.

    They are on a CPU, and on a GPU after `torch.use_deterministic_algorithms(True)`.
    """

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
        has_good_kernel = features[0].device.type != "cpu" and not torch.are_deterministic_algorithms_enabled()
        # A graph that is exported is to hold the operator.
        if has_good_kernel or torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
            return super().forward(x, boxes, image_shapes)
        if self.scales is None or self.map_levels is None:
            self.scales, self.map_levels = scales_and_levels(
                features, image_shapes, self.canonical_scale, self.canonical_level
            )
        cells, weights = _cells_and_weights(self, features, boxes)
        return _WeightedSums.apply(cells, weights, *features)  # pyright: ignore[reportReturnType]


class _WeightedSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cells: Tensor, weights: Tensor, *features: Tensor) -> Tensor:
        ctx.cells, ctx.weights, ctx.shapes = cells, weights, [level.shape for level in features]
        num_rois, size, _, num_taps = cells.shape
        every_cell = torch.cat([_by_cell(level) for level in features]).to(weights.dtype)
        sums = F.embedding_bag(
            cells.view(-1, num_taps), every_cell, per_sample_weights=weights.view(-1, num_taps), mode="sum"
        )
        return (
            sums.view(num_rois, size, size, features[0].shape[1]).permute(0, 3, 1, 2).to(features[0].dtype).contiguous()
        )

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        num_taps = ctx.cells.shape[-1]
        sizes = [batch * height * width for batch, _, height, width in ctx.shapes]
        in_order, order = ctx.cells.flatten().sort(stable=True)
        sums = F.embedding_bag(
            order // num_taps,
            _by_cell(grad_outputs[0]).to(ctx.weights.dtype),
            # Where each cell's pooled values begin.
            torch.searchsorted(in_order, torch.arange(sum(sizes), dtype=in_order.dtype, device=in_order.device)),
            per_sample_weights=ctx.weights.flatten()[order],
            mode="sum",
        )
        gradients = [
            of_level.view(batch, height, width, channels).permute(0, 3, 1, 2).to(grad_outputs[0].dtype).contiguous()
            for of_level, (batch, channels, height, width) in zip(sums.split(sizes), ctx.shapes, strict=True)
        ]
        return (None, None, *gradients)


def _by_cell(maps: Tensor) -> Tensor:
    """`[n, channels, height, width]` as a row for each cell, `[n * height * width, channels]`."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def _cells_and_weights(pool: MultiScaleRoIAlign, features: list[Tensor], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The cells that each pooled value is summed from, as rows of all levels' `_by_cell`, and their weights.

    Returns:
        int32 and floating, `[all_rois, size, size, taps]`.
    """
    assert pool.scales is not None
    assert pool.map_levels is not None
    levels = pool.map_levels(boxes)
    rois = torch.cat(boxes) * boxes[0].new_tensor(pool.scales)[levels, None]
    image = torch.cat(
        [torch.full_like(of_image[:, 0], index, dtype=torch.int64) for index, of_image in enumerate(boxes)]
    )
    heights, widths = levels.new_tensor([level.shape[2:] for level in features])[levels].T[:, :, None, None]
    num_cells = levels.new_tensor([level.shape[0] * level.shape[2] * level.shape[3] for level in features])
    first = (num_cells.cumsum(0) - num_cells)[levels, None, None] + image[:, None, None] * heights * widths

    size, ratio = pool.output_size[0], pool.sampling_ratio
    rows, row_weights = _along_an_axis(rois[:, 1], rois[:, 3], size, heights, ratio)
    columns, column_weights = _along_an_axis(rois[:, 0], rois[:, 2], size, widths, ratio)
    rows = (first + rows * widths).int()
    cells = rows[:, :, None, :, None] + columns.int()[:, None, :, None, :]
    weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
    return cells.flatten(3), weights.flatten(3)


def _along_an_axis(start: Tensor, end: Tensor, size: int, length: Tensor, ratio: int) -> tuple[Tensor, Tensor]:
    """Which rows (or columns) of its map each pooled one is summed from, and how much they count.

    Args:
        start: `[num_rois]`, in cells of the map.
        end: the same.
        size: pooled rows.
        length: `[num_rois, 1, 1]`, rows of the map.
        ratio: samples a pooled row; each lies between two rows.

    Returns:
        `[num_rois, size, 2 * ratio]`, int64 and floating.
    """
    step = (end - start).clamp(min=1) / size
    samples = (torch.arange(size * ratio, dtype=start.dtype, device=start.device).view(size, ratio) + 0.5) / ratio
    places = start[:, None, None] + samples * step[:, None, None]
    inside = (places >= -1) & (places <= length)
    places = places.clamp(min=0).minimum(length - 1)
    lower = places.long()
    beyond = places - lower
    rows = torch.cat([lower, (lower + 1).minimum(length - 1)], dim=2)
    weights = torch.cat([1 - beyond, beyond], dim=2) * inside.repeat(1, 1, 2) / ratio
    return rows, weights
