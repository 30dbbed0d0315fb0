"""The detector on a GPU against torchvision's, and the pooling of the CPU against that of the GPU."""

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign

from dynrcnn_ray.models.detector import build_torchvision_model
from dynrcnn_ray.models.region_proposals import BestFirstRPN
from dynrcnn_ray.models.roi_align import RoIAlignBySums
from dynrcnn_ray.training.device import on_device
from tests.models.test_detector import NUM_CLASSES, config, model_and_state, random_batch
from tests.models.test_region_proposals import ANCHORS_OF_LEVELS, SHAPES, outputs, rpn

pytestmark = pytest.mark.gpu


def test_with_everything_fixed_the_losses_are_torchvisions(cuda: torch.device):
    """DLA and DSL off, IoU 0.5 and torchvision's hard-coded beta: nothing of the loss is ours any more."""
    trial = config(dla=False, dsl=False, fixed_iou=0.5, fixed_beta=1 / 9)
    model, _ = model_and_state(trial, cuda)
    plain = on_device(build_torchvision_model(trial, NUM_CLASSES), cuda)
    plain.load_state_dict(model.state_dict())
    for objects in [(3, 1, 4, 2), (0, 2, 0, 1), (0, 0)]:
        images, targets = random_batch(1, objects)
        batch = [image.to(cuda) for image in images], [{k: v.to(cuda) for k, v in t.items()} for t in targets]
        torch.manual_seed(5)
        ours = model(*batch)
        torch.manual_seed(5)
        theirs = plain.train()(*batch)
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [7, 14])
def test_the_roi_align_of_the_cpu_is_that_of_the_gpu(size: int, cuda: torch.device):
    generator = torch.Generator().manual_seed(size)
    names, shapes = ["0", "1"], [(2, 5, 32, 24), (2, 5, 16, 12)]
    maps = [torch.randn(shape, generator=generator) for shape in shapes]
    corners = torch.rand(40, 2, generator=generator) * 100 - 8
    boxes = torch.cat([corners, corners + torch.rand(40, 2, generator=generator) * 80 + 0.5], dim=1)
    pooled, gradients = [], []
    for pool, device in ((RoIAlignBySums, torch.device("cpu")), (MultiScaleRoIAlign, cuda)):
        of_device = pool(featmap_names=names, output_size=size, sampling_ratio=2, canonical_scale=56).train()
        features = {
            name: level.to(device, memory_format=torch.channels_last).requires_grad_()
            for name, level in zip(names, maps, strict=True)
        }
        values = of_device(features, [boxes.to(device), boxes[:0].to(device)], [(128, 96)] * 2)
        values.square().sum().backward()
        pooled.append(values.detach().cpu())
        gradients.append([level.grad.cpu() for level in features.values() if level.grad is not None])
    torch.testing.assert_close(*pooled, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_the_proposals_of_the_gpu_are_those_of_the_cpu(cuda: torch.device):
    """But for boxes whose IoU is so near to the limit that rounding decides."""
    ours = BestFirstRPN.of(rpn(0.85, 250))
    boxes, logits = outputs(0, 8.0)
    on_cpu, _ = ours.filter_proposals(boxes, logits, SHAPES, ANCHORS_OF_LEVELS)
    on_gpu, _ = ours.filter_proposals(boxes.to(cuda), logits.to(cuda), SHAPES, ANCHORS_OF_LEVELS)
    for one, other in zip(on_cpu, on_gpu, strict=True):
        assert len(one) == len(other) == 250
        of_one, of_other = (
            {tuple(box) for box in proposals.cpu().round(decimals=3).tolist()} for proposals in (one, other)
        )
        assert len(of_one & of_other) > 0.97 * len(of_one)
