"""T_now and beta_now for a training loop that is not the package's own, of whatever library."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dynrcnn_ray.config.errors import DynrcnnError, one_line
from dynrcnn_ray.config.sections import DynamicConfig, ModelConfig
from dynrcnn_ray.config.validation import parse_tree
from dynrcnn_ray.dynamic.boxes import match_proposals
from dynrcnn_ray.dynamic.open_state import OpenTrainingState
from dynrcnn_ray.dynamic.proposals import AssignedProposals
from dynrcnn_ray.training.collectives import all_reduce_sum


class DynamicTrainingError(DynrcnnError, ValueError):
    """A model, or tensors, with which dynamic training cannot work. Its text is one line."""

    would_repeat = True


class DynamicTraining:
    """T_now and beta_now, which follow the statistics of the proposals (Paper: Algorithm 1).

    `make_dynamic` returns one that a torchvision model feeds by itself. For other libraries, feed it what a step
    measured, and end the step. Under `torch.distributed` all processes follow the values of all: every C steps an
    all-reduce joins them, so each process must call `step` equally often.

    >>> import torch
    >>> import dynrcnn_ray as dr
    >>> dynamic = dr.DynamicTraining(update_interval=2)
    >>> for _ in range(2):
    ...     dynamic.record(ious=torch.tensor([0.5, 0.75]), errors=torch.tensor([0.25, 0.5]))
    ...     dynamic.step()
    >>> float(dynamic.iou_threshold), float(dynamic.beta)
    (0.625, 0.375)
    """

    def __init__(
        self,
        *,
        iou_top_k: int = 75,
        beta_top_k: int = 10,
        update_interval: int = 100,
        initial_iou: float = 0.4,
        initial_beta: float = 1.0,
        rois_per_image: int = 512,
    ) -> None:
        """Start at the initial values.

        Args:
            iou_top_k: K_I, per image of 512 sampled RoIs; read by `measure` alone.
            beta_top_k: K_beta, the same.
            update_interval: C, training steps between two updates.
            initial_iou: T_now before the first update, and its floor.
            initial_beta: beta_now before the first update, and its ceiling.
            rois_per_image: RoIs that the model samples in an image; K_I and K_beta are scaled to it.

        Raises:
            ValueError: a value is out of range.
        """
        given = {
            "iou_top_k": iou_top_k,
            "beta_top_k": beta_top_k,
            "update_interval": update_interval,
            "initial_iou": initial_iou,
            "initial_beta": initial_beta,
        }
        dynamic = parse_tree(given, DynamicConfig)
        self._state = OpenTrainingState(dynamic, parse_tree({"rois_per_image": rois_per_image}, ModelConfig))

    @property
    def iou_threshold(self) -> Tensor:
        """T_now: the IoU from which a proposal is a positive. A scalar on the device; to read it waits for a GPU."""
        return self._state.iou_threshold.clone()

    @property
    def beta(self) -> Tensor:
        """beta_now: where SmoothL1 turns from quadratic to linear. A scalar on the device, as above."""
        return self._state.smooth_l1_beta.clone()

    @property
    def steps(self) -> int:
        """Training steps done."""
        return self._state.step

    @torch.no_grad()
    def measure(
        self,
        proposals: Sequence[Tensor],
        gt_boxes: Sequence[Tensor],
        box_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0),
    ) -> tuple[Tensor, Tensor]:
        """I_k and E_k of some images, as the paper has them: the K_I-th largest IoU, the K_beta-th smallest error.

        >>> import torch
        >>> import dynrcnn_ray as dr
        >>> dynamic = dr.DynamicTraining(iou_top_k=1, beta_top_k=1)
        >>> truth = torch.tensor([[0.0, 0, 10, 10]])
        >>> dynamic.measure([truth + torch.tensor([0.0, 2, 0, 2])], [truth])
        (tensor([0.6667]), tensor([1.]))

        Args:
            proposals: `[num_proposals, 4]` of each image, xyxy pixels, with the ground truths if training appends them.
            gt_boxes: `[num_gt, 4]` of each image.
            box_weights: with which the model normalises the offsets of x, y, w and h.

        Returns:
            `[num_images]` each; NaN for an image without a positive at the present threshold.

        Raises:
            DynamicTrainingError: the two are not of as many images.
        """
        if len(proposals) != len(gt_boxes):
            raise DynamicTrainingError(
                f"measure: proposals are of {len(proposals)} images and gt_boxes of {len(gt_boxes)}; give one of each "
                "for every image"
            )
        if not proposals:
            return torch.empty(0), torch.empty(0)
        self._state.move_to(proposals[0].device)
        none = proposals[0].new_empty(0, dtype=torch.int64)
        images = [
            AssignedProposals(boxes, truth, match_proposals(boxes, truth) if len(truth) else None, none, none)
            for boxes, truth in zip(proposals, gt_boxes, strict=True)
        ]
        found = self._state.measure(images, box_weights)
        nothing = found.ious.new_full((), torch.nan)
        return torch.where(found.valid, found.ious, nothing), torch.where(found.valid, found.errors, nothing)

    def record(self, ious: Tensor, errors: Tensor) -> None:
        """Add what a step measured on this process to S_I and S_E. A step may be recorded in several parts.

        Args:
            ious: I_k, one value or several, of any shape. What is not finite does not count.
            errors: E_k, the same; there may be more or fewer of them.

        Raises:
            DynamicTrainingError: one is no tensor.
        """
        for name, values in (("ious", ious), ("errors", errors)):
            if not isinstance(values, Tensor):
                raise DynamicTrainingError(
                    f"record: {name} is {type(values).__name__}, not a tensor; give torch.tensor(values)"
                )
        self._state.add(ious.flatten(), errors.flatten())

    def step(self) -> None:
        """End a training step, after `optimizer.step()`; every C-th updates T_now and beta_now."""
        self._state.end_step(all_reduce_sum)

    def state_dict(self) -> dict[str, Any]:
        """All that a checkpoint needs to go on exactly, between two steps: T_now, beta_now, S_I, S_E, the step.

        Under `torch.distributed` every process must call it, as S_I and S_E lie on all of them; each gets the same.

        >>> import dynrcnn_ray as dr
        >>> dynamic, resumed = dr.DynamicTraining(), dr.DynamicTraining()
        >>> dynamic.step()
        >>> resumed.load_state_dict(dynamic.state_dict())
        >>> resumed.steps
        1
        """
        return self._state.state_dict(all_reduce_sum)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave, on any number of processes. Each of them must load it.

        Raises:
            ValueError: it is something else, or has another update interval.
        """
        try:
            self._state.load_state_dict(dict(state))
        except (KeyError, TypeError, AttributeError) as error:
            raise DynamicTrainingError(
                f"load_state_dict: this is no state of dynamic training ({one_line(error)}); give what state_dict() "
                "of it returned"
            ) from None


def state_of(dynamic: DynamicTraining) -> OpenTrainingState:
    """What RoI heads of this package record into; no part of the interface."""
    return dynamic._state
