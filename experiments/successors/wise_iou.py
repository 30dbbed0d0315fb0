"""Wise-IoU v3 (Tong et al., 2023, arXiv:2301.10051) as the box loss, in place of SmoothL1.

A RoI's loss is r R (1 - IoU) of its refined box. R grows with the distance of the centres. r depends on how the RoI's
1 - IoU compares with the running mean over all RoIs: outliers, much worse than the mean, count less, and so do the
best. The running mean is what this loss follows as the detector improves, as Dynamic SmoothL1 follows beta_now, whose
place it takes here: every C steps it takes in the mean of all workers' images, and checkpoints hold it. Without DSL it
is the fixed beta.
"""

import dataclasses

import torch
from torch import Tensor

from dynrcnn_ray.dynamic.boxes import paired_iou
from dynrcnn_ray.dynamic.proposals import AssignedProposals
from dynrcnn_ray.dynamic.state import DynamicTrainingState
from dynrcnn_ray.models.roi_heads import DynamicRoIHeads

OPTIONS = {
    "alpha": 1.9,
    "delta": 3.0,
    # Steps in which the running mean forgets 95 % of its beginning: of 600, what 34 of 120 epochs are for the authors.
    "settled": 170,
    # Of the box loss beside that of the classes; as in docs/examples/giou_loss.py.
    "weight": 10.0,
}


class RunningMean(DynamicTrainingState):
    """beta_now is the running mean of 1 - IoU, from 1 on."""

    def next_beta(self, errors: Tensor, valid: Tensor, beta_now: Tensor) -> Tensor:
        """A moving average with the weight 1 - .05^(C / settled) for the interval's mean."""
        weight = 1 - 0.05 ** (self.config.update_interval / self.model.option("settled", OPTIONS))
        mean = (errors.double().sum() / valid.sum().clamp(min=1)).to(errors.dtype)
        return beta_now + weight * (mean - beta_now)


class WiseIoURoIHeads(DynamicRoIHeads):
    """Faster R-CNN's RoI heads with the loss of Wise-IoU v3."""

    def box_losses(
        self, images: list[AssignedProposals], class_logits: Tensor, offsets: Tensor, coder, beta: Tensor
    ) -> dict[str, Tensor]:
        """As the package's, with another `loss_box_reg`; records each image's mean of 1 - IoU as its E_k."""
        losses = super().box_losses(images, class_logits, offsets, coder, beta)
        positive = torch.cat([image.labels for image in images]) > 0
        targets = torch.cat([image.matched_boxes[image.sampled] for image in images])
        refined = coder.decode_single(offsets, torch.cat([image.sampled_boxes for image in images]))
        # A negative has the loss and the gradient of a box that fits.
        whole = torch.tensor([0.0, 0.0, 1.0, 1.0], device=targets.device)
        refined, targets = (torch.where(positive[:, None], boxes, whole) for boxes in (refined, targets))
        iou_loss = 1 - paired_iou(refined, targets)
        self._record(images, iou_loss.detach(), positive)

        alpha, delta = (self.config.model.option(name, OPTIONS) for name in ("alpha", "delta"))
        outlier_degree = iou_loss.detach() / beta
        focus = outlier_degree / (delta * alpha ** (outlier_degree - delta))
        of_each = focus * _distance_attention(refined, targets) * iou_loss
        weight = self.config.model.option("weight", OPTIONS)
        return losses | {"loss_box_reg": weight * of_each.sum() / len(positive)}

    def _record(self, images: list[AssignedProposals], iou_loss: Tensor, positive: Tensor) -> None:
        """Record anew what the heads have recorded of this step, with the images' means as E_k."""
        counts = [len(image.sampled) for image in images]
        of_images = zip(iou_loss.split(counts), positive.split(counts), strict=True)
        means, known = zip(
            *((loss.sum() / each.sum().clamp(min=1), each.any()) for loss, each in of_images), strict=True
        )
        measured = self.dynamic.measure(images, self.box_coder.weights)
        valid = measured.valid & torch.stack(known)
        self.dynamic.record(dataclasses.replace(measured, errors=torch.stack(means), valid=valid))


def _distance_attention(boxes: Tensor, targets: Tensor) -> Tensor:
    """R: exp of the centres' squared distance over the squared diagonal of the smallest box around both, a constant."""
    low, high = torch.minimum(boxes, targets)[:, :2], torch.maximum(boxes, targets)[:, 2:]
    diagonal = (high - low).square().sum(dim=1).detach()
    distance = ((boxes[:, :2] + boxes[:, 2:] - targets[:, :2] - targets[:, 2:]) / 2).square().sum(dim=1)
    return torch.exp(distance / diagonal)


DYNAMIC_STATE = RunningMean
ROI_HEADS = WiseIoURoIHeads
