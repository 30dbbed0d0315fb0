"""Algorithm 1 as plain loops over lists of floats, written from the specification alone. Slow, and easy to check."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, median_high

from dynrcnn_ray.config.trial_config import TrialConfig

Box = tuple[float, float, float, float]
Records = tuple[list[float], list[float]]
WEIGHTS = (10.0, 10.0, 5.0, 5.0)


@dataclass(frozen=True)
class Image:
    """One image: its proposals (ground truths included, if appended), its ground truths, the sampled indices."""

    proposals: list[Box]
    gt_boxes: list[Box]
    sampled: list[int]


def iou(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(width, 0.0) * max(height, 0.0)
    return overlap / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap)


def error(proposal: Box, target: Box) -> float:
    """Mean of |dx| and |dy| of the regression target, normalised by the weights."""
    dx = ((target[0] + target[2]) / 2 - (proposal[0] + proposal[2]) / 2) / (proposal[2] - proposal[0])
    dy = ((target[1] + target[3]) / 2 - (proposal[1] + proposal[3]) / 2) / (proposal[3] - proposal[1])
    return (abs(WEIGHTS[0] * dx) + abs(WEIGHTS[1] * dy)) / 2


def best_match(proposal: Box, image: Image) -> tuple[float, Box]:
    """IoU with the ground truth that overlaps most, and that ground truth."""
    overlaps = [iou(proposal, gt) for gt in image.gt_boxes]
    return max(overlaps), image.gt_boxes[overlaps.index(max(overlaps))]


def without_ground_truths(image: Image) -> Image:
    """Of an image whose ground truths were appended as the last proposals: the others alone."""
    count = len(image.proposals) - len(image.gt_boxes)
    return Image(image.proposals[:count], image.gt_boxes, [index for index in image.sampled if index < count])


def max_ious(image: Image) -> list[float]:
    return [best_match(proposal, image)[0] for proposal in image.proposals] if image.gt_boxes else []


def kth_largest(values: list[float], k: int) -> float:
    return sorted(values, reverse=True)[min(k, len(values)) - 1]


def kth_smallest(values: list[float], k: int) -> float:
    return sorted(values)[min(k, len(values)) - 1]


def paper(images: Sequence[Image], threshold: float, iou_k: int, beta_k: int) -> Records:
    ious, errors = [], []
    for image in images:
        if not image.gt_boxes or not image.proposals:
            continue
        matches = [(proposal, *best_match(proposal, image)) for proposal in image.proposals]
        positive_errors = [error(proposal, gt) for proposal, overlap, gt in matches if overlap >= threshold]
        if positive_errors:
            ious.append(kth_largest(max_ious(image), iou_k))
            errors.append(kth_smallest(positive_errors, beta_k))
    return ious, errors


def mmdetection(images: Sequence[Image], threshold: float, iou_k: int, beta_k: int) -> Records:
    image_ious, positive_errors = [], []
    for image in images:
        if not image.gt_boxes or not image.proposals:
            continue
        image_ious.append(kth_largest(max_ious(image), iou_k))
        for index in image.sampled:
            overlap, gt = best_match(image.proposals[index], image)
            if overlap >= threshold:
                positive_errors.append(error(image.proposals[index], gt))
    if not positive_errors:
        return [], []
    return [fmean(image_ious)], [kth_smallest(positive_errors, beta_k * len(images))]


def released(images: Sequence[Image], threshold: float, iou_k: int, beta_k: int) -> Records:
    ious, errors, any_positive = [], [], False
    for image in images:
        if not image.gt_boxes:
            continue
        for proposal in image.proposals:
            overlap, matched = best_match(proposal, image)
            if overlap >= threshold:
                any_positive = True
            else:
                matched = image.gt_boxes[0]
            ious.append(iou(proposal, matched))
            errors.append(error(proposal, matched))
    if not any_positive:
        return [], []
    return [kth_largest(ious, iou_k * len(images))], [kth_smallest(errors, beta_k * len(images))]


CONVENTIONS = {"paper": paper, "mmdetection": mmdetection, "released": released}


class Oracle:
    """T_now and beta_now of all workers together."""

    def __init__(self, config: TrialConfig) -> None:
        self.config = config
        self.steps = 0
        self.iou_now = config.dynamic.initial_iou
        self.beta_now = config.dynamic.initial_beta
        self.kept_iou_updates = 0
        self.kept_beta_updates = 0
        self.iou_records: list[float] = []
        self.error_records: list[float] = []

    @property
    def iou_threshold(self) -> float:
        return self.iou_now if self.config.dynamic.dla else self.config.dynamic.fixed_iou

    @property
    def smooth_l1_beta(self) -> float:
        return self.beta_now if self.config.dynamic.dsl else self.config.dynamic.fixed_beta

    def is_near_threshold(self, image: Image) -> bool:
        """Whether float32 could disagree about a positive. An IoU that equals the threshold exactly is a fair case."""
        return any(0 < abs(overlap - self.iou_threshold) < 1e-6 for overlap in max_ious(image))

    def step(self, workers: Sequence[Sequence[Image]]) -> None:
        """One training step: the images of each worker."""
        measure = CONVENTIONS[self.config.dynamic.convention]
        for of_worker in workers:
            images = of_worker
            if not self.config.dynamic.count_ground_truths:
                images = [without_ground_truths(image) for image in of_worker]
            ious, errors = measure(images, self.iou_threshold, self.config.iou_top_k, self.config.beta_top_k)
            self.iou_records += ious
            self.error_records += errors
        self.steps += 1
        if self.steps % self.config.dynamic.update_interval == 0:
            self._update()

    def _update(self) -> None:
        if self.iou_records:
            self.iou_now = max(self.config.dynamic.initial_iou, fmean(self.iou_records))
        else:
            self.kept_iou_updates += 1
        middle = median_high if self.config.dynamic.convention == "released" else median
        if self.error_records and middle(self.error_records) >= 1e-15:
            self.beta_now = min(self.config.dynamic.initial_beta, middle(self.error_records))
        else:
            self.kept_beta_updates += 1
        self.iou_records, self.error_records = [], []
