"""What is recorded of a run's dynamics: one row every `log_every` steps, averaged over the workers.

Losses add up on the device; they reach the host, with one collective, only when a row is made.
"""

import time

import torch
from torch import Tensor

from dynrcnn_ray.dynamic_training import AllReduceSum, AssignedProposals, DynamicTrainingState

BOX_LOSSES = ("loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg")
MASK_LOSS = "loss_mask"
IOU_LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)

DynamicsRow = dict[str, float]


class Telemetry:
    """Gathers losses and proposal counts between two rows."""

    def __init__(self, loss_names: tuple[str, ...], device: torch.device, world_size: int) -> None:
        """Start with nothing gathered of these losses."""
        self._loss_names = loss_names
        self._world_size = world_size
        self._sums = torch.zeros(len(loss_names) + 1, device=device)
        self._reset()

    def _reset(self) -> None:
        self._sums.zero_()
        self._steps = 0
        self._images = 0
        self._started = time.perf_counter()

    def add(self, losses: dict[str, Tensor], images: list[AssignedProposals]) -> None:
        """Add one step's losses and its sampled positives per image. No host sync."""
        sampled_labels = torch.cat([image.labels for image in images])
        positives = (sampled_labels > 0).sum() / len(images)
        self._sums += torch.stack([*(losses[name].detach() for name in self._loss_names), positives])
        self._steps += 1
        self._images += len(images)

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
            images: the last step's assignment; the counts of proposals at each IoU are taken from it.
            all_reduce: sums over the workers.
        """
        means = torch.cat([self._sums / self._steps, _proposals_at_levels(images).to(self._sums)])
        all_reduce(means)
        means /= self._world_size
        in_force = [dynamic.iou_now, dynamic.beta_now, dynamic.iou_threshold, dynamic.smooth_l1_beta]
        values = torch.cat([means, torch.stack(in_force)]).tolist()
        names = [*self._loss_names, "positives", *(f"positives_iou{round(level * 100)}" for level in IOU_LEVELS)]
        names += ["T_now", "beta_now", "iou_threshold", "smooth_l1_beta"]
        row: DynamicsRow = {"step": step, **dict(zip(names, values, strict=True))}
        row["loss"] = sum(row[name] for name in self._loss_names)
        row["learning_rate"] = learning_rate
        row["images_per_second"] = self._images * self._world_size / (time.perf_counter() - self._started)
        self._reset()
        return row


def _proposals_at_levels(images: list[AssignedProposals]) -> Tensor:
    """Proposals per image at or above each IoU level. `[num_levels]`, float."""
    levels = images[0].proposals.new_tensor(IOU_LEVELS)
    matches = [image.match.max_iou for image in images if image.match is not None]
    if not matches:
        return torch.zeros_like(levels)
    return (torch.cat(matches)[:, None] >= levels).sum(dim=0) / len(images)
