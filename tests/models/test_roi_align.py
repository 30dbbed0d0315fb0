import dataclasses
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.ops import MultiScaleRoIAlign

from benchmarks.workbench import preload, train_split
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.models.roi_align import RoIAlignBySums, _cells_and_weights, _WeightedSums
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.loop import seed_step
from dynrcnn_ray.training.state import build_training_state
from tests.prepared import prepared

NAMES = ["0", "1", "2"]


@pytest.mark.parametrize(("size", "sampling_ratio"), [(7, 2), (14, 2), (7, 3), (1, 1)])
def test_values_and_gradients_are_torchvisions(size: int, sampling_ratio: int):
    generator = torch.Generator().manual_seed(size)
    settings = {"featmap_names": NAMES, "output_size": size, "sampling_ratio": sampling_ratio, "canonical_scale": 56}
    pools = [RoIAlignBySums(**settings).train(), MultiScaleRoIAlign(**settings).train()]
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


def test_no_roi_at_all_has_no_gradient():
    pool = RoIAlignBySums(featmap_names=NAMES[:2], output_size=7, sampling_ratio=2)
    features = {name: torch.rand(2, 3, 8 // scale, 8 // scale) for name, scale in zip(NAMES[:2], (1, 2), strict=True)}
    for level in features.values():
        level.requires_grad_()
    pooled = pool(features, [torch.empty(0, 4)] * 2, [(32, 32)] * 2)
    assert pooled.shape == (0, 3, 7, 7)
    pooled.sum().backward()
    assert not any(level.grad.any() for level in features.values())


def test_a_gpu_pools_by_weighted_sums_where_it_must_be_deterministic():
    """Fake tensors have a device and compute nothing: one that stays on the CPU would be refused."""
    pool = RoIAlignBySums(featmap_names=NAMES[:2], output_size=7, sampling_ratio=2)
    torch.use_deterministic_algorithms(True)
    try:
        with FakeTensorMode():
            maps = [torch.rand(2, 3, 32 // scale, 32 // scale, device="cuda", requires_grad=True) for scale in (1, 2)]
            boxes = [torch.rand(5, 4, device="cuda"), torch.rand(0, 4, device="cuda")]
            pooled = pool(dict(zip(NAMES, maps, strict=False)), boxes, [(128, 128)] * 2)
            assert "WeightedSums" in type(pooled.grad_fn).__name__
            # Autograd would ask for the card itself.
            context = SimpleNamespace()
            _WeightedSums.forward(context, *_cells_and_weights(pool, maps, boxes), *maps)
            of_maps = _WeightedSums.backward(context, pooled)[2:]
    finally:
        torch.use_deterministic_algorithms(False)
    assert pooled.shape == (5, 3, 7, 7)
    for level, gradient in zip(maps, of_maps, strict=True):
        assert (gradient.shape, gradient.device) == (level.shape, level.device)


def test_testing_pools_by_weighted_sums_too():
    pool = RoIAlignBySums(featmap_names=["0"], output_size=7, sampling_ratio=2)
    features = torch.rand(1, 2, 8, 8, requires_grad=True)

    def backward_of_pooling() -> str:
        return type(pool({"0": features}, [torch.tensor([[0.0, 0.0, 20.0, 20.0]])], [(32, 32)]).grad_fn).__name__

    assert "WeightedSums" in backward_of_pooling()
    pool.eval()
    assert "WeightedSums" in backward_of_pooling()


def test_a_traced_graph_holds_torchvisions_operator():
    class Pooling(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = RoIAlignBySums(featmap_names=["0"], output_size=7, sampling_ratio=2)

        def forward(self, features: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
            return self.pool({"0": features}, [boxes], [(32, 32)])

    example = (torch.rand(1, 2, 8, 8), torch.tensor([[0.0, 0.0, 20.0, 20.0]]))
    with warnings.catch_warnings(action="ignore"):  # torchvision's own code takes sizes for constants.
        traced = torch.jit.trace(Pooling().eval(), example)
    assert "roi_align" in str(traced.inlined_graph)


@pytest.mark.slow
@pytest.mark.usefixtures("_float64")
def test_a_training_has_the_losses_and_gradients_of_torchvisions_pooling(smoke: TrialConfig):
    """At the same weights: from step to step a rounding may choose another sample, and two trainings part.

    The fourth of six steps ends with an update of T_now and beta_now.
    """
    smoke = dataclasses.replace(smoke, train=dataclasses.replace(smoke.train, shards=1))
    dataset = train_split(smoke)
    fast, plain = (build_training_state(prepared(smoke), len(dataset.class_names), Worker()) for _ in range(2))
    own_pool = fast.model.roi_heads.box_roi_pool
    plain.model.roi_heads.box_roi_pool = MultiScaleRoIAlign(
        own_pool.featmap_names, own_pool.output_size, 2, canonical_scale=own_pool.canonical_scale
    )
    for step, (images, targets) in enumerate(preload(smoke, dataset, 6)):
        plain.model.load_state_dict(fast.model.state_dict())
        losses = []
        inputs = [image / 255 for image in images]
        truths = [{"boxes": target["boxes"].double(), "labels": target["labels"]} for target in targets]
        for state in (fast, plain):
            seed_step(0, step, 0)
            state.optimizer.zero_grad()
            losses.append(state.model.train()(inputs, truths))
            torch.stack(list(losses[-1].values())).sum().backward()
            state.dynamic.end_step()
        torch.testing.assert_close(*losses)
        for ours, theirs in zip(fast.model.parameters(), plain.model.parameters(), strict=True):
            assert (ours.grad - theirs.grad).norm() <= 1e-9 * theirs.grad.norm()
        fast.optimizer.step()
    assert torch.equal(fast.dynamic.iou_now, plain.dynamic.iou_now)
