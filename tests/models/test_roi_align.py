import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign

from dynrcnn_ray.models.roi_align import FastBackwardRoIAlign

NAMES = ["0", "1", "2"]


@pytest.mark.parametrize(("size", "sampling_ratio"), [(7, 2), (14, 2), (7, 3), (1, 1)])
def test_values_and_gradients_are_torchvisions(size: int, sampling_ratio: int):
    generator = torch.Generator().manual_seed(size)
    settings = {"featmap_names": NAMES, "output_size": size, "sampling_ratio": sampling_ratio, "canonical_scale": 56}
    pools = [FastBackwardRoIAlign(**settings).train(), MultiScaleRoIAlign(**settings).train()]
    shapes = [(2, 5, 32, 24), (2, 5, 16, 12), (2, 5, 8, 6)]
    maps = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    # Over the borders, smaller than a cell, in every level; an image without any.
    corners = torch.rand(40, 2, generator=generator, dtype=torch.float64) * 120 - 8
    sizes = torch.rand(40, 2, generator=generator, dtype=torch.float64) ** 3 * 110 + 0.5
    boxes = [torch.cat([corners, corners + sizes], dim=1), torch.empty(0, 4, dtype=torch.float64)]
    outcomes = []
    for pool in pools:
        features = {name: level.clone().requires_grad_() for name, level in zip(NAMES, maps, strict=True)}
        pooled = pool(features, boxes, [(128, 96), (128, 96)])
        (pooled * torch.arange(pooled.numel()).view_as(pooled)).sum().backward()
        outcomes.append([pooled, *(level.grad for level in features.values())])
    for ours, theirs in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_large_maps_and_testing_take_torchvisions_own_code():
    pool = FastBackwardRoIAlign(featmap_names=["0"], output_size=7, sampling_ratio=2)
    small, large = torch.rand(1, 2, 8, 8, requires_grad=True), torch.rand(1, 2, 65, 64, requires_grad=True)
    boxes = [torch.tensor([[0.0, 0.0, 20.0, 20.0]])]

    def backward_of(features: torch.Tensor) -> str:
        pool.scales = None
        shape = (features.shape[2] * 4, features.shape[3] * 4)
        return type(pool({"0": features}, boxes, [shape]).grad_fn).__name__

    assert "PoolWithFastBackward" in backward_of(small)
    assert "PoolWithFastBackward" not in backward_of(large)
    pool.eval()
    assert "PoolWithFastBackward" not in backward_of(small)
