"""GIoU (Rezatofighi et al., CVPR 2019) of the refined boxes as the loss, in place of SmoothL1."""

import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from dynrcnn_ray.dynamic.proposals import AssignedProposals
from dynrcnn_ray.models.roi_heads import DynamicRoIHeads

OPTIONS = {"weight": 10.0}


class GIoURoIHeads(DynamicRoIHeads):
    def box_losses(
        self, images: list[AssignedProposals], class_logits: Tensor, offsets: Tensor, coder, beta: Tensor
    ) -> dict[str, Tensor]:
        losses = super().box_losses(images, class_logits, offsets, coder, beta)
        positive = torch.cat([image.labels for image in images]) > 0
        refined = coder.decode_single(offsets, torch.cat([image.sampled_boxes for image in images]))
        targets = torch.cat([image.matched_boxes[image.sampled] for image in images])
        of_each = generalized_box_iou_loss(refined, targets) * positive
        weight = self.config.model.option("weight", OPTIONS)
        return losses | {"loss_box_reg": weight * of_each.sum() / len(positive)}


ROI_HEADS = GIoURoIHeads
