import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.ops import box_iou

from dynrcnn_ray.dynamic.boxes import assign_labels, centre_errors, match_proposals, paired_iou, smooth_l1

SEEDS = pytest.mark.parametrize("seed", range(5))


def random_boxes(count: int, generator: torch.Generator) -> Tensor:
    corner = torch.rand(count, 2, generator=generator) * 60
    return torch.cat([corner, corner + 4 + torch.rand(count, 2, generator=generator) * 40], dim=1)


@pytest.mark.parametrize("beta", [1e-6, 1 / 9, 0.5, 1.0, 3.0])
def test_smooth_l1_has_torchs_values_and_gradients(beta: float) -> None:
    noise = torch.randn(200, generator=torch.Generator().manual_seed(0)) * 2
    offsets = torch.cat([noise, torch.tensor([0.0, beta, -beta, beta / 2, 10 * beta])]).requires_grad_()
    reference = offsets.detach().clone().requires_grad_()

    ours = smooth_l1(offsets.abs(), torch.tensor(beta))
    theirs = F.smooth_l1_loss(reference, torch.zeros_like(reference), reduction="none", beta=beta)
    ours.sum().backward()
    theirs.sum().backward()

    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(offsets.grad, reference.grad)


@SEEDS
@pytest.mark.parametrize("weights", [(10.0, 10.0, 5.0, 5.0), (20.0, 30.0, 10.0, 1.0), (1.0, 1.0, 1.0, 1.0)])
def test_centre_errors_are_those_of_torchvisions_box_coder(seed: int, weights: tuple[float, ...]) -> None:
    generator = torch.Generator().manual_seed(seed)
    proposals, targets = random_boxes(50, generator).double(), random_boxes(50, generator).double()
    encoded = BoxCoder(weights).encode_single(targets, proposals)
    torch.testing.assert_close(centre_errors(proposals, targets, weights), encoded[:, :2].abs().mean(dim=1))


def test_a_proposal_on_its_target_has_no_error() -> None:
    boxes = random_boxes(50, torch.Generator().manual_seed(0))
    assert (centre_errors(boxes, boxes, (10.0, 10.0, 5.0, 5.0)) == 0).all()


@SEEDS
@pytest.mark.parametrize("threshold", [0.1, 0.4, 0.5, 1.0])
def test_labels_are_those_of_torchvisions_matcher(seed: int, threshold: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    gts = random_boxes(6, generator)
    gt_labels = torch.randint(1, 80, (6,), generator=generator)
    proposals = torch.cat([gts + torch.randn(6, 4, generator=generator), random_boxes(60, generator), gts])
    index = Matcher(threshold, threshold)(box_iou(gts, proposals))

    labels = assign_labels(match_proposals(proposals, gts), gt_labels, torch.tensor(threshold))

    assert torch.equal(labels, torch.where(index >= 0, gt_labels[index.clamp(min=0)], 0))
    assert labels.dtype == torch.int64
    assert (labels > 0).any()


def test_an_iou_that_equals_the_threshold_is_positive() -> None:
    gt = torch.tensor([[0.0, 0.0, 8.0, 8.0]])
    half = torch.tensor([[0.0, 0.0, 8.0, 4.0]])
    match = match_proposals(half, gt)
    for threshold, label in ((0.5, 3), (0.5000001, 0)):
        assert assign_labels(match, torch.tensor([3]), torch.tensor(threshold)).item() == label


@SEEDS
def test_paired_iou_is_the_diagonal_of_box_iou(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes = random_boxes(50, generator)
    others = torch.cat([boxes[:10], boxes[10:20] + 1000, random_boxes(30, generator)])
    torch.testing.assert_close(paired_iou(boxes, others), box_iou(boxes, others).diagonal())
