"""What a run records of its proposals for later: those of a few steps (Figures 2 and 3), and every I_k and E_k."""

import math

import numpy as np
import torch
from torch import Tensor

from dynrcnn_ray.dynamic.proposals import AssignedProposals
from dynrcnn_ray.dynamic.state import DynamicTrainingState
from dynrcnn_ray.models.torchvision_private import encode_boxes

ProposalColumns = dict[str, Tensor]
"""One step's proposals: a tensor on the host for each field of `schemas.PROPOSALS` but `trial_id`."""

_SHARES_OF_SCHEDULE = (0.1, 1 / 3, 2 / 3, 1.0)
_LOWEST_IOU = 0.3


def steps_of_snapshots(total_steps: int, log_every: int) -> set[int]:
    """The steps to record: the first logged ones from each share of the schedule on."""
    shares = (math.ceil(round(total_steps * share) / log_every) * log_every for share in _SHARES_OF_SCHEDULE)
    return {min(step, total_steps) for step in shares}


def proposal_columns(step: int, images: list[AssignedProposals], dynamic: DynamicTrainingState) -> ProposalColumns:
    """Copy a step's proposals at IoU 0.3 or above to the host.

    Args:
        step: steps done so far.
        images: the first shard's assignment of the step.
        dynamic: the thresholds in force, which every proposal carries along.
    """
    parts = [_of_image(position, image) for position, image in enumerate(images) if image.match is not None]
    columns = {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if parts else _of_no_image()
    in_force = {"iou_threshold": dynamic.iou_threshold, "smooth_l1_beta": dynamic.smooth_l1_beta}
    count = len(columns["max_iou"])
    columns |= {name: value.detach().expand(count).cpu().clone() for name, value in in_force.items()}
    return columns | {"step": torch.full((count,), step)}


def joined_columns(snapshots: list[ProposalColumns]) -> dict[str, np.ndarray]:
    """All recorded steps one after another, as arrays; nothing if none was recorded."""
    if not snapshots:
        return {}
    return {name: torch.cat([columns[name] for columns in snapshots]).numpy() for name in snapshots[0]}


def statistics_columns(dynamic: DynamicTrainingState) -> dict[str, np.ndarray]:
    """What `dynamic.recorded` holds as columns of `schemas.STATISTICS` but `trial_id`; nothing if none was kept.

    It ends with the last update. A run that began to record when it was resumed lacks the steps before.
    """
    if not dynamic.recorded:
        return {}
    ious, errors, valid = torch.cat(dynamic.recorded, dim=1).numpy()
    last_update = dynamic.step - dynamic.step % dynamic.config.update_interval
    step, image = np.indices(ious.shape).reshape(2, -1)
    values = {"iou": ious, "error": errors}
    measured = {name: np.where(valid > 0, value, np.nan).reshape(-1) for name, value in values.items()}
    return {"step": step + 1 + last_update - len(ious), "image": image, **measured}


def _of_image(position: int, image: AssignedProposals) -> ProposalColumns:
    assert image.match is not None
    kept = (image.match.max_iou >= _LOWEST_IOU).nonzero()[:, 0]
    boxes, targets = image.proposals[kept], image.matched_boxes[kept]
    offsets = encode_boxes(targets, boxes, boxes.new_ones(4))
    first_appended = len(image.proposals) - len(image.gt_boxes)
    columns = {
        "image": torch.full_like(kept, position),
        "is_ground_truth": kept >= first_appended,
        "max_iou": image.match.max_iou[kept],
        **dict(zip(("dx", "dy", "dw", "dh"), offsets.unbind(dim=1), strict=True)),
        **dict(zip(("x1", "y1", "x2", "y2"), boxes.unbind(dim=1), strict=True)),
    }
    return {name: column.detach().cpu().contiguous() for name, column in columns.items()}


def _of_no_image() -> ProposalColumns:
    empty = torch.zeros(0)
    offsets_and_corners = dict.fromkeys(("max_iou", "dx", "dy", "dw", "dh", "x1", "y1", "x2", "y2"), empty)
    return {"image": empty.long(), "is_ground_truth": empty.bool(), **offsets_and_corners}
