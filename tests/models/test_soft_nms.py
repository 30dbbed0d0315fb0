import math

import pytest
import torch
from torch import Tensor

from dynrcnn_ray.models.soft_nms import soft_nms

SETTINGS = {"iou_threshold": 0.5, "sigma": 0.5, "min_score": 0.001}


def iou(one: list[float], other: list[float]) -> float:
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def naive(boxes: Tensor, scores: Tensor, decay: str, max_detections: int) -> list[tuple[float, int, list[float]]]:
    """The published algorithm, class by class and pair by pair, until nothing is left."""
    kept = []
    for label in range(len(boxes)):
        left = [[s, b] for s, b in zip(scores[label].tolist(), boxes[label].tolist(), strict=True)]
        while left:
            left = [entry for entry in left if entry[0] >= SETTINGS["min_score"]]
            if not left:
                break
            best = max(left, key=lambda entry: entry[0])
            left.remove(best)
            kept.append((best[0], label, best[1]))
            for entry in left:
                overlap = iou(best[1], entry[1])
                if decay == "gaussian":
                    entry[0] *= math.exp(-(overlap**2) / SETTINGS["sigma"])
                elif overlap > SETTINGS["iou_threshold"]:
                    entry[0] *= 1 - overlap
    return sorted(kept, key=lambda entry: -entry[0])[:max_detections]


def random_case(seed: int, num_classes: int, num_boxes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(num_classes, num_boxes, 2, generator=generator, dtype=torch.float64) * 60
    sizes = torch.rand(num_classes, num_boxes, 2, generator=generator, dtype=torch.float64) * 50 + 5
    scores = torch.rand(num_classes, num_boxes, generator=generator, dtype=torch.float64) ** 3
    return torch.cat([corners, corners + sizes], dim=2), scores


@pytest.mark.parametrize("decay", ["linear", "gaussian"])
@pytest.mark.parametrize("seed", range(25))
def test_equal_to_the_naive_algorithm(decay, seed: int):
    num_classes, num_boxes = 1 + seed % 5, 1 + seed * 3
    max_detections = (5, 20, 1000)[seed % 3]
    boxes, scores = random_case(seed, num_classes, num_boxes)
    kept = soft_nms(boxes, scores, decay=decay, max_detections=max_detections, **SETTINGS)
    expected = naive(boxes, scores, decay, max_detections)
    assert kept.labels.tolist() == [label for _, label, _ in expected]
    assert kept.scores.tolist() == pytest.approx([score for score, _, _ in expected])
    assert kept.boxes.tolist() == [box for _, _, box in expected]


def test_nothing_in_nothing_out():
    for shape in [(3, 0), (2, 4)]:
        kept = soft_nms(torch.rand(*shape, 4), torch.zeros(shape), decay="linear", max_detections=10, **SETTINGS)
        assert len(kept.boxes) == len(kept.scores) == len(kept.labels) == 0


def test_the_inputs_stay_as_they_were():
    boxes, scores = random_case(0, 2, 20)
    before = scores.clone()
    soft_nms(boxes, scores, decay="linear", max_detections=10, **SETTINGS)
    assert torch.equal(scores, before)
