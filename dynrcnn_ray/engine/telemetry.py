"""What is recorded of a run's dynamics: one row every `log_every` steps, averaged over the workers.

Losses add up on the device; they reach the host, with one collective, only when a row is made.
"""

import math
import time
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection._utils import encode_boxes

from dynrcnn_ray.config import ModelConfig
from dynrcnn_ray.dynamic_training import AllReduceSum, AssignedProposals, DynamicTrainingState

IOU_LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)
_LEVEL_NAMES = tuple(f"positives_iou{round(level * 100)}" for level in IOU_LEVELS)
_OFFSETS = ("dx", "dy", "dw", "dh")
_NUM_MOMENTS = len(IOU_LEVELS) + 3 + 1 + 2 * len(_OFFSETS)
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Weights of the box coder, which normalise the recorded errors."""

DynamicsRow = dict[str, float]


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

    def __init__(self, loss_names: tuple[str, ...], device: torch.device, world_size: int) -> None:
        """Start with nothing gathered of these losses."""
        self._loss_names = loss_names
        self._world_size = world_size
        self._sums = torch.zeros(len(loss_names) + 1, device=device)
        self._steps = 0
        self.start_clock()

    def start_clock(self) -> None:
        """Images per second count from here."""
        self._timed_images = 0
        self._started = time.perf_counter()

    def add(self, losses: dict[str, Tensor], images: list[AssignedProposals], batch_size: int) -> None:
        """Add one step's losses and its sampled positives per image, if there are proposals. No host sync."""
        of_step = [losses[name].detach() for name in self._loss_names]
        if images:
            sampled_labels = torch.cat([image.labels for image in images])
            of_step.append((sampled_labels > 0).sum() / len(images))
        self._sums[: len(of_step)] += torch.stack(of_step)
        self._steps += 1
        self._timed_images += batch_size

    def is_finite(self, all_reduce: AllReduceSum) -> bool:
        """Whether every worker's losses since the last row are finite. A host sync."""
        sums = self._sums.clone()
        all_reduce(sums)
        return bool(sums.isfinite().all())

    def state_dict(self, rank: int, all_reduce: AllReduceSum) -> dict[str, Any]:
        """What is gathered so far by every worker, a row each. Every worker must call it; all get the same."""
        sums = self._sums.new_zeros(self._world_size, len(self._sums))
        sums[rank] = self._sums
        all_reduce(sums)
        return {"sums": sums, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any], rank: int) -> None:
        """Go on from a checkpoint: with the worker's own sums, or with the mean after another number of workers."""
        sums = state["sums"]
        self._sums.copy_(sums[rank] if len(sums) == self._world_size else sums.mean(dim=0))
        self._steps = state["steps"]

    def row(
        self,
        step: int,
        learning_rate: float,
        dynamic: DynamicTrainingState,
        images: list[AssignedProposals],
        all_reduce: AllReduceSum,
    ) -> DynamicsRow:
        """Make the row of a step and start anew. The one host sync of the interval is here.

        Args:
            step: steps done so far.
            learning_rate: of the last step.
            dynamic: Algorithm 1's state.
            images: the last step's assignment; the counts of proposals at each IoU are taken from it. Empty for a
                detector of one stage.
            all_reduce: sums over the workers.
        """
        of_interval = self._sums / max(1, self._steps)
        of_last_step = _moments(images, dynamic) if images else self._sums.new_zeros(_NUM_MOMENTS)
        vector = torch.cat([of_interval, of_last_step.to(of_interval)])
        all_reduce(vector)
        in_force = [dynamic.iou_now, dynamic.beta_now, dynamic.iou_threshold, dynamic.smooth_l1_beta]
        values = torch.cat([vector, torch.stack(in_force)]).tolist()
        names = [*self._loss_names, "positives", *_LEVEL_NAMES]
        row: DynamicsRow = {"step": step}
        row |= {name: values.pop(0) / self._world_size for name in names}
        row |= _from_moments([values.pop(0) for _ in range(len(of_last_step) - len(IOU_LEVELS))])
        row |= dict(zip(("T_now", "beta_now", "iou_threshold", "smooth_l1_beta"), values, strict=True))
        if not images:
            # A detector of one stage has nothing to tell of proposals.
            row = {name: value if name in ("step", *self._loss_names) else math.nan for name, value in row.items()}
        row["loss"] = sum(row[name] for name in self._loss_names)
        row["learning_rate"] = learning_rate
        row["images_per_second"] = self._timed_images * self._world_size / (time.perf_counter() - self._started)
        self._sums.zero_()
        self._steps = 0
        self.start_clock()
        return row


def _moments(images: list[AssignedProposals], dynamic: DynamicTrainingState) -> Tensor:
    """Sums over this worker's images of a step, which add up over the workers.

    Returns:
        Proposals per image at each IoU level; I_k and E_k with the number of images that have them; of the proposals at
        IoU 0.5, their number and the sums and sums of squares of their four offsets.
    """
    matched = [image for image in images if image.match is not None]
    levels = images[0].proposals.new_tensor(IOU_LEVELS)
    if not matched:
        return levels.new_zeros(_NUM_MOMENTS)
    max_ious = torch.cat([image.match.max_iou for image in matched if image.match])
    proposals = torch.cat([image.proposals for image in matched])
    targets = torch.cat([image.matched_boxes for image in matched])
    at_levels = (max_ious[:, None] >= levels).sum(dim=0) / len(images)

    ranked = dynamic.measure(matched, BOX_WEIGHTS)
    ranks = torch.stack([torch.where(ranked.valid, values, 0).sum() for values in (ranked.ious, ranked.errors)])

    positive = (max_ious >= IOU_LEVELS[0])[:, None]
    offsets = torch.where(positive, encode_boxes(targets, proposals, torch.ones_like(levels[:4])), 0)
    spread = torch.cat([positive.sum(dim=0), offsets.sum(dim=0), offsets.square().sum(dim=0)])
    return torch.cat([at_levels, ranks, ranked.valid.sum()[None], spread])


def _from_moments(sums: list[float]) -> DynamicsRow:
    """The means at the recorded ranks, and the standard deviation of each offset; NaN where there was nothing."""
    sum_ious, sum_errors, num_ranked, num_positives, *of_offsets = sums
    row = {
        "iou_at_rank": sum_ious / num_ranked if num_ranked else math.nan,
        "error_at_rank": sum_errors / num_ranked if num_ranked else math.nan,
    }
    for name, total, squares in zip(_OFFSETS, of_offsets[:4], of_offsets[4:], strict=True):
        row[f"sigma_{name}"] = math.nan
        if num_positives:
            row[f"sigma_{name}"] = math.sqrt(max(0.0, squares / num_positives - (total / num_positives) ** 2))
    return row
