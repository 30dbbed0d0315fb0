"""Algorithm 1 of the paper: the IoU threshold and SmoothL1's beta follow the statistics of the proposals.

Every step each worker measures its proposals (I_k and E_k) and records them on its device; nothing is copied to the
host. Every C steps one all-reduce joins the records of all workers, and every worker computes the same T_now and
beta_now from them. The state lives beside the model: it is in no `state_dict` of the detector.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dynrcnn_ray.config.shares import share_of_worker
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.dynamic.boxes import Match, centre_errors, paired_iou

AllReduceSum = Callable[[Tensor], None]
"""Sums a tensor over all workers, in place."""

SMALLEST_BETA = 1e-15
"""beta_now is never set to less: the loss divides by it."""


def single_worker(tensor: Tensor) -> None:
    """The all-reduce of one worker: the tensor already holds the sum."""


@dataclass(frozen=True)
class AssignedProposals:
    """One image's proposals after assignment and sampling.

    Attributes:
        proposals: `[num_proposals, 4]`, xyxy pixels: the RPN's, then the image's ground truths.
        gt_boxes: `[num_gt, 4]`.
        match: each proposal's best ground truth; `None` for an image without ground truth.
        sampled: `[num_sampled]`, indices of the proposals sampled for the loss.
        labels: `[num_sampled]`, their classes; 0 is background.
    """

    proposals: Tensor
    gt_boxes: Tensor
    match: Match | None
    sampled: Tensor
    labels: Tensor

    @cached_property
    def matched_boxes(self) -> Tensor:
        """Each proposal's best ground truth, `[num_proposals, 4]`; the proposal itself where the image has none."""
        return self.proposals if self.match is None else self.gt_boxes[self.match.gt_index]

    @cached_property
    def sampled_boxes(self) -> Tensor:
        """The sampled proposals, `[num_sampled, 4]`."""
        return self.proposals[self.sampled]

    def without_ground_truths(self) -> "AssignedProposals":
        """The RPN's proposals alone. A sampled ground truth becomes background, so that its error does not count."""
        count = len(self.proposals) - len(self.gt_boxes)
        if self.match is None or not count:
            return replace(self, proposals=self.proposals[:count], match=None)
        return replace(
            self,
            proposals=self.proposals[:count],
            match=Match(self.match.max_iou[:count], self.match.gt_index[:count]),
            sampled=self.sampled.clamp(max=count - 1),
            labels=torch.where(self.sampled < count, self.labels, 0),
        )


@dataclass(frozen=True)
class ProposalStatistics:
    """One step's measurements of one worker.

    The convention `paper` gives one value an image, the other two give one value a worker.

    Attributes:
        ious: `[num_values]`, I_k.
        errors: `[num_values]`, E_k.
        valid: `[num_values]`, bool; false where no proposal was positive, so that there was nothing to measure.
    """

    ious: Tensor
    errors: Tensor
    valid: Tensor


class DynamicTrainingState:
    """T_now, beta_now and the sets S_I and S_E (Paper: Algorithm 1).

    S_I and S_E are one buffer with a slot for each image of the global batch and each step of the interval. A worker
    fills the slots of its own images and leaves the others zero, so that a sum over the workers is their union.

    Attributes:
        step: training steps done.
        iou_now: T_now; scalar, on the device.
        beta_now: beta_now; scalar, on the device.
        kept_iou_updates: updates that found nothing measured and kept T_now; scalar, on the device.
        kept_beta_updates: the same of beta_now, an unusable median among them.
        recorded: with `run.record_statistics`, all workers' records of each interval, `[3, C, global_batch]` on the
            host: I_k, E_k, and whether they are valid.
    """

    def __init__(
        self,
        config: TrialConfig,
        *,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Start Algorithm 1 at `initial_iou` and `initial_beta` with empty S_I and S_E.

        Args:
            config: the trial; its `dynamic` section, its global batch and its RoIs per image count here.
            device: where the model trains.
            rank: this worker's number.
            world_size: the number of workers, at most the global batch.
        """
        self.config = config.dynamic
        self.iou_top_k = config.iou_top_k
        self.beta_top_k = config.beta_top_k
        self.step = 0
        self.recorded: list[Tensor] | None = [] if config.run.record_statistics else None
        self.iou_now = torch.tensor(self.config.initial_iou, device=device)
        self.beta_now = torch.tensor(self.config.initial_beta, device=device)
        self.kept_iou_updates = torch.zeros((), dtype=torch.int64, device=device)
        self.kept_beta_updates = torch.zeros((), dtype=torch.int64, device=device)
        self._fixed_iou = torch.tensor(self.config.fixed_iou, device=device)
        self._fixed_beta = torch.tensor(self.config.fixed_beta, device=device)
        self._rank, self._world_size = rank, world_size
        self._own_slots = share_of_worker(config.train.global_batch, rank, world_size)
        self._records = torch.zeros(3, self.config.update_interval, config.train.global_batch, device=device)

    @property
    def iou_threshold(self) -> Tensor:
        """The threshold in force: T_now with DLA, the fixed one without. Scalar, on the device."""
        return self.iou_now if self.config.dla else self._fixed_iou

    @property
    def smooth_l1_beta(self) -> Tensor:
        """The beta in force: beta_now with DSL, the fixed one without. Scalar, on the device."""
        return self.beta_now if self.config.dsl else self._fixed_beta

    def measure(self, images: Sequence[AssignedProposals], weights: tuple[float, ...]) -> ProposalStatistics:
        """Take I_k and E_k of one step's images by the configured convention.

        Args:
            images: this worker's images.
            weights: the box coder's weights, which normalise the errors.
        """
        if not self.config.count_ground_truths:
            images = [image.without_ground_truths() for image in images]
        measure = _MEASURES[self.config.convention]
        return measure(images, weights, self.iou_threshold, self.iou_top_k, self.beta_top_k)

    def record(self, statistics: ProposalStatistics) -> None:
        """Add one step's values to S_I and S_E. At most as many values as this worker has images."""
        count = statistics.ious.numel()
        assert count <= self._own_slots.stop - self._own_slots.start, "more values than this worker has slots"
        values = torch.stack([statistics.ious, statistics.errors, torch.ones_like(statistics.ious)])
        first = self._own_slots.start
        self._records[:, self.step % self.config.update_interval, first : first + count] = torch.where(
            statistics.valid, values, 0
        )

    def end_step(self, all_reduce: AllReduceSum = single_worker) -> None:
        """Count a training step; after every C-th, compute the next T_now and beta_now. Every worker must call it.

        Args:
            all_reduce: sums over the workers. It is called in every C-th step alone; on CUDA it blocks the device's
                queue, not the host.
        """
        self.step += 1
        if self.step % self.config.update_interval == 0:
            self._update(all_reduce)

    def _update(self, all_reduce: AllReduceSum) -> None:
        """T_now = max(initial, mean of S_I), beta_now = min(initial, median of S_E), then empty both."""
        if self.config.all_reduce:
            all_reduce(self._records)
        if self.recorded is not None:
            self.recorded.append(self._records_of_all(all_reduce, joined=self.config.all_reduce).cpu())
        ious, errors, valid = self._records.flatten(1)
        count = valid.sum()
        measured = count > 0

        # float64, so that the mean does not depend on how many records there are.
        mean_iou = (ious.double().sum() / count.clamp(min=1)).to(ious.dtype)
        next_iou = mean_iou.clamp(min=self.config.initial_iou)
        self.iou_now.copy_(torch.where(measured, next_iou, self.iou_now))
        self.kept_iou_updates += ~measured

        median_error = _median_of_valid(errors, valid > 0, upper=self.config.convention == "released")
        usable = measured & (median_error >= SMALLEST_BETA)
        next_beta = median_error.clamp(max=self.config.initial_beta)
        self.beta_now.copy_(torch.where(usable, next_beta, self.beta_now))
        self.kept_beta_updates += ~usable

        self._records.zero_()

    def _records_of_all(self, all_reduce: AllReduceSum, *, joined: bool = False) -> Tensor:
        """A copy of the records of all workers; `joined` says that they are together already."""
        records = self._records.clone()
        if not joined:
            all_reduce(records)
        return records

    def state_dict(self, all_reduce: AllReduceSum = single_worker) -> dict[str, Any]:
        """Everything that a checkpoint needs, with the records of all workers. Every worker must call it."""
        values = torch.stack([getattr(self, name).double() for name in _VALUES])
        of_workers = values.new_zeros(self._world_size, len(_VALUES))
        of_workers[self._rank] = values
        all_reduce(of_workers)
        return {
            "step": self.step,
            "values": of_workers,
            "records": self._records_of_all(all_reduce),
            "recorded": list(self.recorded or []),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state, also one of another number of workers.

        Raises:
            ValueError: the state has another update interval or global batch, or, where each worker follows its own
                records, another number of workers.
        """
        if state["records"].shape != self._records.shape:
            raise ValueError(
                "dynamic training state: the checkpoint has (update interval, global batch) = "
                f"{tuple(state['records'].shape[1:])}, this run has {tuple(self._records.shape[1:])}; "
                "resume with the settings of the checkpoint"
            )
        of_workers = state["values"]
        if not self.config.all_reduce and len(of_workers) != self._world_size:
            raise ValueError(
                f"dynamic training state: the checkpoint has {len(of_workers)} workers, this run {self._world_size}; "
                "without dynamic.all_reduce each goes on from its own T_now: resume with as many"
            )
        self.step = int(state["step"])
        for name, value in zip(_VALUES, of_workers[0 if self.config.all_reduce else self._rank], strict=True):
            getattr(self, name).copy_(value)
        if self.recorded is not None:
            self.recorded = list(state["recorded"])
        self._records.zero_()
        self._records[:, :, self._own_slots] = state["records"][:, :, self._own_slots].to(self._records.device)


_VALUES = ("iou_now", "beta_now", "kept_iou_updates", "kept_beta_updates")
"""What each worker has beside its records: equal on all, unless each follows its own."""


def _measure_paper(
    images: Sequence[AssignedProposals], weights: tuple[float, ...], threshold: Tensor, iou_top_k: int, beta_top_k: int
) -> ProposalStatistics:
    """Per image: the K_I-th largest IoU, and the K_beta-th smallest error of the positives."""
    every_error = centre_errors(*_joined(images), weights)
    of_images = every_error.split([len(image.proposals) for image in images])
    errors = pad_sequence(list(of_images), batch_first=True)
    max_ious = _padded_max_ious(images)
    error = _kth_smallest(errors, max_ious >= threshold, beta_top_k)
    return ProposalStatistics(ious=_kth_largest(max_ious, iou_top_k), errors=error, valid=error.isfinite())


def _measure_mmdetection(
    images: Sequence[AssignedProposals], weights: tuple[float, ...], threshold: Tensor, iou_top_k: int, beta_top_k: int
) -> ProposalStatistics:
    """Per worker: the images' mean K_I-th largest IoU, and an order statistic over all sampled positives' errors."""
    matched = [image for image in images if image.match is not None]
    if not matched:
        return _nothing_measured(threshold)
    iou = _kth_largest(_padded_max_ious(matched), iou_top_k).mean(dim=0, keepdim=True)
    targets = torch.cat([image.matched_boxes[image.sampled] for image in matched])
    errors = centre_errors(torch.cat([image.sampled_boxes for image in matched]), targets, weights)
    positive = torch.cat([image.labels for image in matched]) > 0
    error = _kth_smallest(errors[None], positive[None], beta_top_k * len(images))
    return ProposalStatistics(iou, error, valid=error.isfinite())


def _measure_released(
    images: Sequence[AssignedProposals], weights: tuple[float, ...], threshold: Tensor, iou_top_k: int, beta_top_k: int
) -> ProposalStatistics:
    """Per worker: order statistics over all raw proposals, with the matches of the released code.

    There a proposal below the threshold counts as matched to ground truth number 0: its index -1 was clamped.
    """
    matched = [image for image in images if image.match is not None]
    if not matched:
        return _nothing_measured(threshold)
    proposals, boxes = _joined(matched)
    first_boxes = torch.cat([image.gt_boxes[:1].expand_as(image.proposals) for image in matched])
    positive = torch.cat([image.match.max_iou for image in matched if image.match]) >= threshold
    boxes = torch.where(positive[:, None], boxes, first_boxes)
    ious, errors = paired_iou(proposals, boxes)[None], centre_errors(proposals, boxes, weights)[None]
    error = _kth_smallest(errors, torch.ones_like(errors, dtype=torch.bool), beta_top_k * len(images))
    return ProposalStatistics(_kth_largest(ious, iou_top_k * len(images)), error, valid=positive.any()[None])


_MEASURES = {"paper": _measure_paper, "mmdetection": _measure_mmdetection, "released": _measure_released}


def _joined(images: Sequence[AssignedProposals]) -> tuple[Tensor, Tensor]:
    """All images' proposals and their matched boxes, `[all_proposals, 4]` each."""
    return torch.cat([image.proposals for image in images]), torch.cat([image.matched_boxes for image in images])


def _padded_max_ious(images: Sequence[AssignedProposals]) -> Tensor:
    """Each image's `max_iou` in a row of `[num_images, most_proposals]`, -1 where there is none."""
    max_ious = [
        image.match.max_iou if image.match else image.proposals.new_full((len(image.proposals),), -1)
        for image in images
    ]
    return pad_sequence(max_ious, batch_first=True, padding_value=-1)


def _kth_largest(ious: Tensor, k: int) -> Tensor:
    """The k-th largest IoU of each row of `[rows, n]`, or the smallest if there are fewer; -1 is no IoU. `[rows]`."""
    return -_kth_smallest(-ious, ious >= 0, k)


def _kth_smallest(values: Tensor, counted: Tensor, k: int) -> Tensor:
    """The k-th smallest of the counted ones in each row of `[rows, n]`, or their largest if they are fewer. `[rows]`.

    How many count is known on the device alone, so the place to read is computed there. Infinite if none counts.
    """
    rows, most = values.shape
    if not most:
        return values.new_full((rows,), torch.inf)
    smallest = torch.where(counted, values, torch.inf).topk(min(k, most), largest=False).values
    place = counted.sum(dim=1, keepdim=True).clamp(min=1, max=smallest.shape[1]) - 1
    return smallest.gather(1, place)[:, 0]


def _median_of_valid(values: Tensor, valid: Tensor, *, upper: bool) -> Tensor:
    """The median of the valid ones among `[n]` values; infinite if there are none. Scalar.

    Of an even number it is the midpoint of the middle two, or the larger one (`upper`).
    """
    ordered = torch.where(valid, values, torch.inf).sort().values
    count = valid.sum().clamp(min=1)
    above = count // 2
    return ordered.gather(0, torch.stack([above if upper else (count - 1) // 2, above])).mean()


def _nothing_measured(like: Tensor) -> ProposalStatistics:
    nothing = torch.zeros_like(like)[None]
    return ProposalStatistics(nothing, nothing, valid=nothing > 0)
