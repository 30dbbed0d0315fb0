"""What is recorded of a run's dynamics: one row every `log_every` steps, over the images of all shards.

Losses add up on the device; they reach the host, with one collective, only when a row is made.
"""

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dynrcnn_ray.config.sections import ModelConfig
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.dynamic.proposals import AssignedProposals
from dynrcnn_ray.dynamic.state import AllReduceSum, DynamicTrainingState
from dynrcnn_ray.models.torchvision_private import encode_boxes
from dynrcnn_ray.training.collectives import Worker

IOU_LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)
_LEVEL_NAMES = tuple(f"positives_iou{round(level * 100)}" for level in IOU_LEVELS)
_OFFSETS = ("dx", "dy", "dw", "dh")
_NUM_MOMENTS = len(IOU_LEVELS) + 3 + 1 + 2 * len(_OFFSETS)
"""As `_moments` has them: levels, the three of the ranks, and the number, sums and squares at IoU 0.5."""
_IN_FORCE = {
    "T_now": "iou_now",
    "beta_now": "beta_now",
    "iou_threshold": "iou_threshold",
    "smooth_l1_beta": "smooth_l1_beta",
}
"""Names in a row, and in `DynamicTrainingState`."""
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Weights of the box coder, which normalise the recorded errors."""

DynamicsRow = dict[str, Any]
"""One row of `schemas.DYNAMICS` but its `trial_id`: plain floats, and lists of them."""


def loss_names(model: ModelConfig) -> tuple[str, ...]:
    """The losses that a detector trains by, in a fixed order."""
    names = ["loss_classifier", "loss_box_reg"]
    if not model.is_one_stage:
        names += ["loss_objectness", "loss_rpn_box_reg"]
    if model.has_masks:
        names.append("loss_mask")
    if model.name == "fcos":
        names.append("loss_centerness")
    return tuple(names)


class Telemetry:
    """Gathers losses and proposal counts between two rows."""

    def __init__(self, loss_names: tuple[str, ...], config: TrialConfig, worker: Worker) -> None:
        """Start with nothing gathered of these losses."""
        self._loss_names = loss_names
        self._global_batch = config.train.global_batch
        self._own_shards = worker.shards(config)
        # A row for each shard, so that the order of the sum is that of the shards.
        self._sums = torch.zeros(config.train.shards, len(loss_names) + 1, device=worker.device)
        self._steps = 0
        self.start_clock()

    def start_clock(self) -> None:
        """Images per second count from here."""
        self._timed_steps = 0
        self._started = time.perf_counter()

    def add(self, shard: int, losses: dict[str, Tensor], images: list[AssignedProposals], batch_size: int) -> None:
        """Add one step's losses of a shard and, if there are proposals, its sampled positives. No host sync.

        Args:
            shard: one of this worker's.
            losses: means over its images.
            images: its assignment.
            batch_size: its images.
        """
        of_step = [losses[name].detach() * batch_size for name in self._loss_names]
        if images:
            of_step.append((torch.cat([image.labels for image in images]) > 0).sum())
        self._sums[shard, : len(of_step)] += torch.stack(of_step)

    def end_step(self) -> None:
        """All of the worker's shards have been added."""
        self._steps += 1
        self._timed_steps += 1

    def is_finite(self, all_reduce: AllReduceSum) -> bool:
        """Whether every worker's losses since the last row are finite. A host sync."""
        sums = self._sums.clone()
        all_reduce(sums)
        return bool(sums.isfinite().all())

    def state_dict(self, all_reduce: AllReduceSum) -> dict[str, Any]:
        """What is gathered so far of every shard, a row each. Every worker must call it; all get the same."""
        sums = self._sums.clone()
        all_reduce(sums)
        return {"sums": sums, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint, whatever the number of workers that saved it."""
        sums = state["sums"]
        if len(sums) != len(self._sums):
            # Earlier releases had a row for each worker.
            sums = sums.sum(dim=0, keepdim=True).expand_as(self._sums) / len(self._sums)
        self._sums.zero_()
        for shard in self._own_shards:
            self._sums[shard] = sums[shard]
        self._steps = state["steps"]

    def row(
        self,
        step: int,
        learning_rate: float,
        dynamic: DynamicTrainingState,
        assignments: Mapping[int, list[AssignedProposals]],
        all_reduce: AllReduceSum,
    ) -> DynamicsRow:
        """Make the row of a step and start anew. The one host sync of the interval is here.

        `T_now` and the other thresholds are the first shard's; `shard_T_now` and `shard_beta_now` hold every one's.

        Args:
            step: the step's number, from 1; its update of T_now and beta_now is yet to come.
            learning_rate: of the last step.
            dynamic: Algorithm 1's state.
            assignments: how the last step's proposals were assigned, by shard; the counts of proposals at each IoU are
                taken from it. Empty lists for a detector of one stage.
            all_reduce: sums over the workers.
        """
        has_proposals = any(assignments.values())
        num_sums = self._sums.shape[1] + _NUM_MOMENTS
        of_shards = self._sums.new_zeros(len(self._sums), num_sums + len(_IN_FORCE))
        for shard in self._own_shards:
            dynamic.shard = shard
            of_interval = self._sums[shard] / max(1, self._steps)
            of_last_step = (
                _moments(assignments[shard], dynamic) if has_proposals else of_interval.new_zeros(_NUM_MOMENTS)
            )
            in_force = torch.stack([getattr(dynamic, name) for name in _IN_FORCE.values()])
            of_shards[shard] = torch.cat([of_interval, of_last_step.to(of_interval), in_force])
        all_reduce(of_shards)
        of_shards = of_shards.cpu()
        values = of_shards[:, :num_sums].sum(dim=0).tolist()
        thresholds = dict(zip(_IN_FORCE, of_shards[:, num_sums:].T.tolist(), strict=True))
        names = [*self._loss_names, "positives", *_LEVEL_NAMES]
        row: DynamicsRow = {"step": step}
        row |= {name: value / self._global_batch for name, value in zip(names, values, strict=False)}
        row |= _from_moments(values[len(names) :])
        row |= {name: of_each[0] for name, of_each in thresholds.items()}
        if not has_proposals:
            # A detector of one stage has nothing to tell of proposals.
            row = {name: value if name in ("step", *self._loss_names) else math.nan for name, value in row.items()}
        else:
            row |= {f"shard_{name}": thresholds[name] for name in ("T_now", "beta_now")}
        row["loss"] = sum(row[name] for name in self._loss_names)
        row["learning_rate"] = learning_rate
        row["images_per_second"] = self._timed_steps * self._global_batch / (time.perf_counter() - self._started)
        self._sums.zero_()
        self._steps = 0
        self.start_clock()
        return row


def _moments(images: list[AssignedProposals], dynamic: DynamicTrainingState) -> Tensor:
    """Sums over a shard's images of a step, which add up over the shards.

    Returns:
        Proposals at each IoU level; I_k and E_k with the number of images that have them; of the proposals at
        IoU 0.5, their number and the sums and sums of squares of their four offsets.
    """
    matched = [image for image in images if image.match is not None]
    levels = images[0].proposals.new_tensor(IOU_LEVELS)
    if not matched:
        return levels.new_zeros(_NUM_MOMENTS)
    max_ious = torch.cat([image.match.max_iou for image in matched if image.match])
    proposals = torch.cat([image.proposals for image in matched])
    targets = torch.cat([image.matched_boxes for image in matched])
    at_levels = (max_ious[:, None] >= levels).sum(dim=0)

    # As they are recorded: two of the conventions count the images without ground truth in their ranks.
    ranked = dynamic.measure(images, BOX_WEIGHTS)
    ranks = torch.stack([torch.where(ranked.valid, values, 0).sum() for values in (ranked.ious, ranked.errors)])

    positive = (max_ious >= IOU_LEVELS[0])[:, None]
    offsets = torch.where(positive, encode_boxes(targets, proposals, torch.ones_like(levels[:4])), 0)
    spread = torch.cat([positive.sum(dim=0), offsets.sum(dim=0), offsets.square().sum(dim=0)])
    return torch.cat([at_levels, ranks, ranked.valid.sum()[None], spread])


def _from_moments(sums: list[float]) -> DynamicsRow:
    """The means at the recorded ranks, and the standard deviation of each offset; NaN where there was nothing."""
    sum_ious, sum_errors, num_ranked, num_at_iou50, *of_offsets = sums
    row = {
        "iou_at_rank": sum_ious / num_ranked if num_ranked else math.nan,
        "error_at_rank": sum_errors / num_ranked if num_ranked else math.nan,
    }
    for name, total, squares in zip(_OFFSETS, of_offsets[:4], of_offsets[4:], strict=True):
        row[f"sigma_{name}"] = math.nan
        if num_at_iou50:
            row[f"sigma_{name}"] = math.sqrt(max(0.0, squares / num_at_iou50 - (total / num_at_iou50) ** 2))
    return row
