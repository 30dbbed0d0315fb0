"""Algorithm 1 of the paper: the IoU threshold and SmoothL1's beta follow the statistics of the proposals.

Every step each shard of the global batch measures its proposals (I_k and E_k), and they are recorded on the device;
nothing is copied to the host. Every C steps one all-reduce joins the records of all workers, and every worker computes
the same T_now and beta_now from them. The state lives beside the model: it is in no `state_dict` of the detector.
A rule of one's own overrides `measure`, `next_iou` or `next_beta` in a subclass.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dynrcnn_ray.config.shares import images_of_shard
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.dynamic.proposals import AssignedProposals
from dynrcnn_ray.dynamic.statistics import MEASURES, ProposalStatistics

AllReduceSum = Callable[[Tensor], None]
"""Sums a tensor over all workers, in place."""

MeasuredSet = tuple[Tensor, Tensor]
"""S_I or S_E: values `[num_slots]`, zero where a slot was not measured, and which were, `[num_slots]` bool."""

SMALLEST_BETA = 1e-15
"""beta_now is never set to less: the loss divides by it."""


def single_worker(tensor: Tensor) -> None:
    """The all-reduce of one worker: the tensor already holds the sum."""


class DynamicTrainingState:
    """T_now, beta_now and the sets S_I and S_E (Paper: Algorithm 1).

    S_I and S_E are one buffer with a slot for each image of the global batch and each step of the interval. A worker
    fills the slots of its own shards and leaves the others zero, so that a sum over the workers is their union.

    Without the all-reduce each shard follows its own records, as a GPU does in other implementations.

    Attributes:
        config: the section `dynamic` of the configuration.
        model: its section `model`, with the options of one's own module.
        step: training steps done.
        shard: whose T_now and beta_now are in force, and whose images are measured; one of this worker's.
        recorded: with `run.record_statistics`, all shards' records of each interval, `[3, C, global_batch]` on the
            host: I_k, E_k, and whether they are valid.
    """

    def __init__(
        self, config: TrialConfig, *, device: torch.device | str = "cpu", own_shards: range | None = None
    ) -> None:
        """Start Algorithm 1 at `initial_iou` and `initial_beta` with empty S_I and S_E.

        Args:
            config: the trial; its `dynamic` section, its global batch, its shards and its RoIs per image count here.
            device: where the model trains.
            own_shards: those that this worker trains; all by default.
        """
        self.config = config.dynamic
        self.model = config.model
        self.iou_top_k = config.iou_top_k
        self.beta_top_k = config.beta_top_k
        self.step = 0
        self.recorded: list[Tensor] | None = [] if config.run.record_statistics else None
        shards, images = config.train.shards, config.train.global_batch
        self.own_shards = range(shards) if own_shards is None else own_shards
        self.shard = self.own_shards.start
        self._slots = [images_of_shard(images, shards, shard) for shard in range(shards)]
        # A value for each shard; with the all-reduce all are equal.
        self._iou_now = torch.full((shards,), self.config.initial_iou, device=device)
        self._beta_now = torch.full((shards,), self.config.initial_beta, device=device)
        self._kept_iou_updates = torch.zeros(shards, dtype=torch.int64, device=device)
        self._kept_beta_updates = torch.zeros(shards, dtype=torch.int64, device=device)
        self._fixed_iou = torch.tensor(self.config.fixed_iou, device=device)
        self._fixed_beta = torch.tensor(self.config.fixed_beta, device=device)
        self._records = torch.zeros(3, self.config.update_interval, images, device=device)

    def move_to(self, device: torch.device) -> None:
        """Move all that it has to another device."""
        for name in (*_VALUES, "_fixed_iou", "_fixed_beta", "_records"):
            setattr(self, name, getattr(self, name).to(device))

    @property
    def iou_now(self) -> Tensor:
        """T_now of the current shard; scalar, on the device."""
        return self._iou_now[self.shard]

    @property
    def beta_now(self) -> Tensor:
        """beta_now of the current shard; scalar, on the device."""
        return self._beta_now[self.shard]

    @property
    def kept_iou_updates(self) -> Tensor:
        """The current shard's updates that found nothing measured and kept T_now; scalar, on the device."""
        return self._kept_iou_updates[self.shard]

    @property
    def kept_beta_updates(self) -> Tensor:
        """The same of beta_now, those with an unusable median among them."""
        return self._kept_beta_updates[self.shard]

    @property
    def iou_threshold(self) -> Tensor:
        """The threshold in force: T_now with DLA, the fixed one without. Scalar, on the device."""
        return self.iou_now if self.config.dla else self._fixed_iou

    @property
    def smooth_l1_beta(self) -> Tensor:
        """The beta in force: beta_now with DSL, the fixed one without. Scalar, on the device."""
        return self.beta_now if self.config.dsl else self._fixed_beta

    def measure(self, images: Sequence[AssignedProposals], weights: tuple[float, ...]) -> ProposalStatistics:
        """Take I_k and E_k of one step's images by the configured convention. Rows of the dynamics ask for it as well.

        Args:
            images: the current shard's images.
            weights: the box coder's weights, which normalise the errors.

        Returns:
            At most as many values as there are images.
        """
        if not self.config.count_ground_truths:
            images = [image.without_ground_truths() for image in images]
        measure = MEASURES[self.config.convention]
        return measure(images, weights, self.iou_threshold, self.iou_top_k, self.beta_top_k)

    def next_iou(self, ious: Tensor, valid: Tensor, iou_now: Tensor) -> Tensor:
        """T_now = max(initial, mean of S_I).

        Args:
            ious: `[num_slots]`, S_I; zero where a slot is not valid.
            valid: `[num_slots]`, bool; which slots of images and steps were measured.
            iou_now: T_now so far; scalar.

        Returns:
            Scalar. T_now is kept if it is not finite, or no slot is valid.
        """
        # float64, so that the mean does not depend on how many records there are.
        mean_iou = (ious.double().sum() / valid.sum().clamp(min=1)).to(ious.dtype)
        return mean_iou.clamp(min=self.config.initial_iou)

    def next_beta(self, errors: Tensor, valid: Tensor, beta_now: Tensor) -> Tensor:
        """beta_now = min(initial, median of S_E).

        Args:
            errors: `[num_slots]`, S_E; zero where a slot is not valid.
            valid: `[num_slots]`, bool; which slots of images and steps were measured.
            beta_now: beta_now so far; scalar.

        Returns:
            Scalar. beta_now is kept if it is not finite or below `SMALLEST_BETA`, or no slot is
            valid.
        """
        median_error = median_of_valid(errors, valid, upper=self.config.convention == "released")
        return median_error.clamp(max=self.config.initial_beta)

    def record(self, statistics: ProposalStatistics) -> None:
        """Add one step's values of the current shard to S_I and S_E. At most as many values as it has images."""
        count = statistics.ious.numel()
        slots = self._slots[self.shard]
        assert count <= slots.stop - slots.start, "more values than the shard has slots"
        values = torch.stack([statistics.ious, statistics.errors, torch.ones_like(statistics.ious)])
        self._records[:, self.step % self.config.update_interval, slots.start : slots.start + count] = torch.where(
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
        """Compute the next T_now and beta_now, of all records or of each shard's own, then empty S_I and S_E."""
        if self.config.all_reduce:
            all_reduce(self._records)
        if self.recorded is not None:
            self.recorded.append(self._records_of_all(all_reduce, joined=self.config.all_reduce).cpu())
        if self.config.all_reduce:
            self._follow_records(self._records, slice(None))
        else:
            for shard in self.own_shards:
                self._follow_records(self._records[:, :, self._slots[shard]], slice(shard, shard + 1))
        self._records.zero_()

    def _follow_records(self, records: Tensor, shards: slice) -> None:
        ious, errors, filled = records.flatten(1)
        self.follow((ious, filled > 0), (errors, filled > 0), shards)

    def follow(self, ious: MeasuredSet, errors: MeasuredSet, shards: slice = slice(None)) -> None:
        """Take the next T_now and beta_now for some shards, which have equal ones.

        Args:
            ious: S_I.
            errors: S_E.
            shards: whose; all by default.
        """
        first = shards.start or 0

        next_iou = self.next_iou(*ious, self._iou_now[first])
        usable = ious[1].any() & next_iou.isfinite()
        self._iou_now[shards] = torch.where(usable, next_iou, self._iou_now[shards])
        self._kept_iou_updates[shards] += ~usable

        next_beta = self.next_beta(*errors, self._beta_now[first])
        usable = errors[1].any() & next_beta.isfinite() & (next_beta >= SMALLEST_BETA)
        self._beta_now[shards] = torch.where(usable, next_beta, self._beta_now[shards])
        self._kept_beta_updates[shards] += ~usable

    def _records_of_all(self, all_reduce: AllReduceSum, *, joined: bool = False) -> Tensor:
        """A copy of the records of all workers; `joined` says that they are together already."""
        records = self._records.clone()
        if not joined:
            all_reduce(records)
        return records

    def state_dict(self, all_reduce: AllReduceSum = single_worker) -> dict[str, Any]:
        """Everything that a checkpoint needs, of all shards. Every worker must call it."""
        values = torch.stack([getattr(self, name).double() for name in _VALUES], dim=1)
        of_all = torch.zeros_like(values)
        of_all[self.own_shards] = values[self.own_shards]
        all_reduce(of_all)
        return {
            "step": self.step,
            "values": of_all,
            "records": self._records_of_all(all_reduce),
            "recorded": list(self.recorded or []),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state, whatever the number of workers that saved it.

        Raises:
            ValueError: the state has another update interval or global batch, or, where each shard follows its own
                records, another number of shards.
        """
        if state["records"].shape != self._records.shape:
            raise ValueError(
                "dynamic training state: the checkpoint has (update interval, global batch) = "
                f"{tuple(state['records'].shape[1:])}, this run has {tuple(self._records.shape[1:])}; "
                "resume with the settings of the checkpoint"
            )
        values, shards = state["values"], len(self._slots)
        if len(values) != shards:
            # Earlier releases had a row for each worker.
            if not self.config.all_reduce:
                raise ValueError(
                    f"dynamic training state: the checkpoint has {len(values)} values of T_now, this run {shards} "
                    "shards; without dynamic.all_reduce each goes on from its own: resume with as many train.shards"
                )
            values = values[:1].expand(shards, -1)
        self.step = int(state["step"])
        for name, of_shards in zip(_VALUES, values.unbind(dim=1), strict=True):
            getattr(self, name).copy_(of_shards)
        if self.recorded is not None:
            self.recorded = list(state["recorded"])
        self._records.zero_()
        for shard in self.own_shards:
            slots = self._slots[shard]
            self._records[:, :, slots] = state["records"][:, :, slots].to(self._records.device)


_VALUES = ("_iou_now", "_beta_now", "_kept_iou_updates", "_kept_beta_updates")
"""What each shard has beside its records."""


def median_of_valid(values: Tensor, valid: Tensor, *, upper: bool) -> Tensor:
    """The median of some values, without a wait for the device.

    Args:
        values: `[n]`.
        valid: `[n]`, bool; which of them count.
        upper: of an even number take the larger of the middle two, not their midpoint.

    Returns:
        Scalar; infinite if none counts.
    """
    ordered = torch.where(valid, values, torch.inf).sort().values
    count = valid.sum().clamp(min=1)
    above = count // 2
    return ordered.gather(0, torch.stack([above if upper else (count - 1) // 2, above])).mean()
