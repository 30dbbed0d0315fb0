"""Algorithm 1 of the paper: the IoU threshold and SmoothL1's beta follow the statistics of the proposals.

Every step each worker measures its proposals (I_k and E_k) and records them on its device; nothing is copied to the
host. Every C steps one all-reduce joins the records of all workers, and every worker computes the same T_now and
beta_now from them. The state lives beside the model: it is in no `state_dict` of the detector.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dynrcnn_ray.config.shares import share_of_worker
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.dynamic.proposals import AssignedProposals
from dynrcnn_ray.dynamic.statistics import MEASURES, ProposalStatistics

AllReduceSum = Callable[[Tensor], None]
"""Sums a tensor over all workers, in place."""

SMALLEST_BETA = 1e-15
"""beta_now is never set to less: the loss divides by it."""


def single_worker(tensor: Tensor) -> None:
    """The all-reduce of one worker: the tensor already holds the sum."""


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
        measure = MEASURES[self.config.convention]
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


def _median_of_valid(values: Tensor, valid: Tensor, *, upper: bool) -> Tensor:
    """The median of the valid ones among `[n]` values; infinite if there are none. Scalar.

    Of an even number it is the midpoint of the middle two, or the larger one (`upper`).
    """
    ordered = torch.where(valid, values, torch.inf).sort().values
    count = valid.sum().clamp(min=1)
    above = count // 2
    return ordered.gather(0, torch.stack([above if upper else (count - 1) // 2, above])).mean()
