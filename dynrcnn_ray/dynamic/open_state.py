"""Algorithm 1 where nobody says beforehand how many images a step has: in a training loop of one's own.

S_I and S_E grow. What is measured is kept on the device, and every C steps the sets of all processes are joined, from
which each computes the same T_now and beta_now. One value more or less in a batch, or another order, changes no bit.
"""

import warnings
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dynrcnn_ray.config.sections import DynamicConfig, ModelConfig, TrainConfig
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.dynamic.state import AllReduceSum, DynamicTrainingState, MeasuredSet, single_worker
from dynrcnn_ray.dynamic.statistics import ProposalStatistics

_MANY_PASSES = 1000
"""No step of an optimiser has so many forward passes: its end was not told."""


class OpenTrainingState(DynamicTrainingState):
    """The state of Algorithm 1 with sets in place of slots. Each process is one shard, of any number of images.

    Attributes:
        trial: the configuration of a trial with these settings; RoI heads want one.
    """

    def __init__(self, dynamic: DynamicConfig, model: ModelConfig) -> None:
        """Start with empty sets.

        Args:
            dynamic: the section of a configuration.
            model: another one, of which the RoIs per image count.
        """
        self.trial = TrialConfig(dynamic=dynamic, model=model, train=TrainConfig(global_batch=1, shards=1))
        super().__init__(self.trial)
        # This process's own values since the last update, and those that a loaded state brought, which all have.
        self._ious: list[Tensor] = []
        self._errors: list[Tensor] = []
        self._loaded: tuple[Tensor, Tensor] = torch.empty(0), torch.empty(0)
        self._passes = 0

    def record(self, statistics: ProposalStatistics) -> None:
        """Add what the RoI heads measured in a forward pass; without gradients, as for a validation loss, nothing."""
        if not torch.is_grad_enabled():
            return
        ious, errors = (
            torch.where(statistics.valid, values, torch.nan) for values in (statistics.ious, statistics.errors)
        )
        self.add(ious, errors)

    def add(self, ious: Tensor, errors: Tensor) -> None:
        """Add values to S_I and to S_E.

        Args:
            ious: `[n]`; those that are not finite do not count.
            errors: `[m]`, the same.
        """
        self.move_to(ious.device)
        self._ious.append(ious.detach().float())
        self._errors.append(errors.detach().float())
        self._passes += 1
        if self._passes == _MANY_PASSES:
            warnings.warn(
                f"{_MANY_PASSES} forward passes were recorded since the last training step: call step() of what "
                "make_dynamic returned after each optimizer.step(), or T_now and beta_now never change",
                stacklevel=2,
            )

    def move_to(self, device: torch.device) -> None:
        """Move all that it has to another device."""
        if self.iou_now.device != device:
            super().move_to(device)
            self._ious = [values.to(device) for values in self._ious]
            self._errors = [values.to(device) for values in self._errors]
            self._loaded = self._loaded[0].to(device), self._loaded[1].to(device)

    def end_step(self, all_reduce: AllReduceSum = single_worker) -> None:
        """Count a training step; after every C-th, compute the next T_now and beta_now. Every process must call it.

        Args:
            all_reduce: sums over the processes of torch's process group.
        """
        self.step += 1
        self._passes = 0
        if self.step % self.config.update_interval == 0:
            ious, errors = self._joined(all_reduce)
            self.follow(_as_measured(ious), _as_measured(errors))
            self._empty()

    def state_dict(self, all_reduce: AllReduceSum = single_worker) -> dict[str, Any]:
        """Everything that a checkpoint needs. Every process must call it; all get the same."""
        ious, errors = self._joined(all_reduce)
        return super().state_dict() | {"ious": ious, "errors": errors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state, whatever the number of processes that saved it. Every process must call it.

        Raises:
            ValueError: the state has another update interval.
        """
        super().load_state_dict(state)
        self._empty()
        device = self.iou_now.device
        self._loaded = state["ious"].to(device), state["errors"].to(device)

    def _joined(self, all_reduce: AllReduceSum) -> tuple[Tensor, Tensor]:
        own = (torch.cat([self.iou_now.new_empty(0), *values]) for values in (self._ious, self._errors))
        ious, errors = (_of_all(values, all_reduce) for values in own)
        return torch.cat([self._loaded[0], ious]), torch.cat([self._loaded[1], errors])

    def _empty(self) -> None:
        self._ious, self._errors = [], []
        self._loaded = self.iou_now.new_empty(0), self.iou_now.new_empty(0)


def _of_all(values: Tensor, all_reduce: AllReduceSum) -> Tensor:
    """The finite values `[n]` of each process, one after the other, with NaN among them."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return values
    rank, processes = dist.get_rank(), dist.get_world_size()
    counts = values.new_zeros(processes)
    counts[rank] = len(values)
    all_reduce(counts)
    most = int(counts.max())
    if not most:
        return values
    of_all = values.new_zeros(processes, most)
    of_all[rank] = torch.nan
    of_all[rank, : len(values)] = values
    all_reduce(of_all)
    return of_all.flatten()


def _as_measured(values: Tensor) -> MeasuredSet:
    # A median wants a slot, if an empty one.
    values = torch.cat([values, values.new_full((1,), torch.nan)])
    valid = values.isfinite()
    return torch.where(valid, values, 0), valid
