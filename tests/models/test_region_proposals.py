"""The proposals against torchvision's RPN, which suppresses among all boxes: the same bits on a CPU."""

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import batched_nms

from dynrcnn_ray.models import region_proposals
from dynrcnn_ray.models.region_proposals import BestFirstRPN, best_first_nms

SHAPES = [(96, 128), (128, 90)]
ANCHORS_OF_LEVELS = [1500, 600, 150, 40]


def rpn(nms_iou: float, wanted: int) -> RegionProposalNetwork:
    anchors = AnchorGenerator(((16,),) * 4, ((0.5, 1.0, 2.0),) * 4)
    top = {"training": 700, "testing": 500}, {"training": wanted, "testing": wanted // 2}
    return RegionProposalNetwork(anchors, RPNHead(8, 3), 0.7, 0.3, 64, 0.5, *top, nms_iou)


def outputs(seed: int, spread: float) -> tuple[Tensor, Tensor]:
    """Boxes around a few places, the more alike the less they spread, some outside of the image or without extent."""
    generator = torch.Generator().manual_seed(seed)
    count = sum(ANCHORS_OF_LEVELS)
    places = torch.rand(12, 4, generator=generator) * torch.tensor([100, 80, 40, 40])
    chosen = places[torch.randint(12, (2, count), generator=generator)]
    moved = chosen + spread * torch.randn(2, count, 4, generator=generator)
    boxes = torch.cat([moved[..., :2], moved[..., :2] + moved[..., 2:].clamp(min=0)], dim=-1)
    return boxes, torch.randn(2 * count, 1, generator=generator)


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize(
    ("nms_iou", "wanted", "spread"),
    [
        (0.85, 250, 8.0),
        (0.85, 250, 0.5),  # Nearly all are dropped: the first boxes do not suffice.
        (0.3, 100, 4.0),
        (0.85, 1000, 8.0),  # More than half of all are wanted.
        (0.85, 5000, 8.0),  # More than there are.
    ],
)
def test_the_proposals_are_torchvisions(nms_iou: float, wanted: int, spread: float, is_training: bool):
    theirs = rpn(nms_iou, wanted).train(is_training)
    ours = BestFirstRPN.of(theirs).train(is_training)
    boxes, logits = outputs(0, spread)
    for of_theirs, of_ours in zip(
        theirs.filter_proposals(boxes, logits, SHAPES, ANCHORS_OF_LEVELS),
        ours.filter_proposals(boxes, logits, SHAPES, ANCHORS_OF_LEVELS),
        strict=True,
    ):
        for one, other in zip(of_theirs, of_ours, strict=True):
            assert torch.equal(one, other)


def test_of_equal_scores_those_of_a_lower_index_come_first():
    """Also where the last that is wanted is one of many: which of them torchvision takes is left to the sort."""
    theirs = rpn(0.85, 250)
    boxes, logits = outputs(3, 8.0)
    logits = (logits * 3).round() / 3
    expected, of_theirs = theirs.filter_proposals(boxes, logits, SHAPES, ANCHORS_OF_LEVELS)
    found, of_ours = BestFirstRPN.of(theirs).filter_proposals(boxes, logits, SHAPES, ANCHORS_OF_LEVELS)
    for one, other, score_of_one, score in zip(expected, found, of_theirs, of_ours, strict=True):
        assert torch.equal(score_of_one, score)
        above = int((score > score[-1]).sum())
        assert sorted(one[:above].tolist()) == sorted(other[:above].tolist())
    count = sum(ANCHORS_OF_LEVELS)
    scores = logits[:count, 0]
    best = best_first_nms(boxes[0], scores, torch.arange(count) % 4, 0.85, 250)
    follows = scores[best].diff()
    assert (follows <= 0).all()
    assert (best.diff()[follows == 0] > 0).all()


def test_a_score_that_is_no_number_is_no_proposal():
    theirs = rpn(0.85, 250)
    boxes, logits = outputs(1, 8.0)
    logits[::7] = torch.nan
    expected, _ = theirs.filter_proposals(boxes, logits, SHAPES, ANCHORS_OF_LEVELS)
    found, scores = BestFirstRPN.of(theirs).filter_proposals(boxes, logits, SHAPES, ANCHORS_OF_LEVELS)
    for one, other, score in zip(expected, found, scores, strict=True):
        assert torch.equal(one, other)
        assert score.isfinite().all()


def test_it_looks_at_a_part_of_the_boxes_and_at_all_where_that_is_not_enough(monkeypatch: pytest.MonkeyPatch):
    looked_at: list[int] = []

    def counting(boxes: Tensor, *others: Tensor | float) -> Tensor:
        looked_at.append(len(boxes))
        return batched_nms(boxes, *others)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(region_proposals, "batched_nms", counting)
    count = sum(ANCHORS_OF_LEVELS)
    levels = torch.arange(count) % 4
    for spread, expected in ((8.0, []), (0.0, [count])):
        boxes, logits = outputs(2, spread)
        best_first_nms(boxes[0], logits[:count, 0], levels, 0.85, 250)
        assert looked_at == expected
