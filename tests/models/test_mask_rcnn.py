"""Mask R-CNN is torchvision's but for the RoIs its mask head trains on; Cascade Mask R-CNN averages its stages."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.roi_heads import maskrcnn_loss, paste_masks_in_image
from torchvision.ops import box_iou

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.models.detector import build_torchvision_model
from tests.models.test_cascade import LOSS_WEIGHTS, opinionated_model, trial
from tests.models.test_detector import NUM_CLASSES, Batch, model_and_state, random_batch, train_step

pytestmark = pytest.mark.usefixtures("_float64")


def mask_trial(name: str = "mask_rcnn", *, dynamic: dict[str, Any] | None = None, **model: Any) -> TrialConfig:
    config = trial(name, **model)
    return dataclasses.replace(config, dynamic=dataclasses.replace(config.dynamic, **(dynamic or {})))


def batch_with_masks(seed: int, objects: tuple[int, ...] = (3, 1, 4, 2)) -> Batch:
    """Every object is the ellipse inside its box."""
    images, targets = random_batch(seed, objects)
    rows, columns = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    for target in targets:
        left, top, right, bottom = target["boxes"][:, :, None, None].unbind(dim=1)
        x, y = (2 * columns - left - right) / (right - left), (2 * rows - top - bottom) / (bottom - top)
        target["masks"] = (x**2 + y**2 <= 1).to(torch.uint8)
    return images, targets


def count_mask_rois(model: FasterRCNN) -> list[int]:
    """Fills with the number of RoIs of each call of the mask head's pool."""
    counts: list[int] = []
    model.roi_heads.mask_roi_pool.register_forward_pre_hook(
        lambda _, inputs: counts.append(sum(len(boxes) for boxes in inputs[1]))
    )
    return counts


@pytest.mark.slow
def test_trained_weights_load_into_torchvision_and_detect_the_same_boxes_and_masks():
    config = mask_trial(score_threshold=0.0, dynamic={"dla": True, "dsl": True})
    model, state = model_and_state(config)
    for step in range(3):
        train_step(model, state, batch_with_masks(step))
    plain = build_torchvision_model(config, NUM_CLASSES)
    assert isinstance(plain, MaskRCNN)
    plain.load_state_dict(model.state_dict(), strict=True)
    # Convolutions add up in another order where the channels lie last: in float64 no rounding chooses another box.
    images = [image.double() for image in random_batch(9, objects=(1, 1))[0]]
    with torch.inference_mode():
        ours, theirs = model.double().eval()(images), plain.double().eval()(images)
    for our, their in zip(ours, theirs, strict=True):
        assert len(their["boxes"]) > 0
        assert our.keys() == their.keys() == {"boxes", "labels", "scores", "masks"}
        for name, value in their.items():
            torch.testing.assert_close(our[name], value, msg=name)


@pytest.mark.parametrize("objects", [(3, 1, 4, 2), (0, 2, 0, 1), (0, 0)])
def test_with_everything_fixed_the_losses_are_torchvisions(objects: tuple[int, ...]):
    config = mask_trial(dynamic={"fixed_beta": 1 / 9})
    model, _ = model_and_state(config)
    plain = build_torchvision_model(config, NUM_CLASSES)
    plain.load_state_dict(model.state_dict())
    losses: list[dict[str, Tensor]] = []
    for detector in (model, plain):
        torch.manual_seed(5)
        losses.append(detector(*batch_with_masks(1, objects)))
    ours, theirs = losses
    torch.testing.assert_close(ours, theirs)
    assert (theirs["loss_mask"] > 0) == (sum(objects) > 0)


def test_the_mask_head_trains_on_the_dynamic_assigners_positives():
    """The threshold is the dynamic state's; `fixed_iou` says something else all along."""
    model, state = model_and_state(mask_trial(dynamic={"dla": True}))
    counts = count_mask_rois(model)
    for threshold in (0.2, 0.5, 0.9):
        state.iou_now.fill_(threshold)
        torch.manual_seed(5)
        model(*batch_with_masks(2))
        assert counts[-1] == sum(int((image.labels > 0).sum()) for image in model.roi_heads.last_assignment)
    assert counts[0] > counts[1] > counts[2] > 0


def test_every_stage_of_a_cascade_trains_a_mask_head_on_its_own_positives():
    model = opinionated_model(mask_trial("cascade_mask_rcnn"))
    heads = model.roi_heads
    boxes: list[list[Tensor]] = []
    logits: list[Tensor] = []
    heads.mask_roi_pool.register_forward_pre_hook(lambda _, inputs: boxes.append(inputs[1]))
    for predictor in heads.mask_predictor:
        predictor.register_forward_hook(lambda _, __, output: logits.append(output.detach()))
    images, targets = batch_with_masks(3, objects=(3, 0, 4, 2))
    losses = model(images, targets)

    expected = 0.0
    for weight, boxes_of_stage, logits_of_stage in zip(LOSS_WEIGHTS, boxes, logits, strict=True):
        matched = [
            box_iou(rois, target["boxes"]).argmax(dim=1) if len(rois) else torch.zeros(0, dtype=torch.int64)
            for rois, target in zip(boxes_of_stage, targets, strict=True)
        ]
        expected += weight * maskrcnn_loss(
            logits_of_stage,
            boxes_of_stage,
            [target["masks"] for target in targets],
            [target["labels"] for target in targets],
            matched,
        )
    torch.testing.assert_close(losses["loss_mask"], expected)
    losses["loss_mask"].backward()
    for head, predictor in zip(heads.mask_head, heads.mask_predictor, strict=True):
        assert all(value.grad.any() for module in (head, predictor) for value in module.parameters())


def test_a_cascades_masks_are_the_mean_of_its_stages():
    model = opinionated_model(mask_trial("cascade_mask_rcnn", score_threshold=0.3))
    logits: list[Tensor] = []
    for predictor in model.roi_heads.mask_predictor:
        torch.nn.init.normal_(predictor.mask_fcn_logits.bias)
        predictor.register_forward_hook(lambda _, __, output: logits.append(output))
    images, _ = random_batch(4, objects=(1,))
    with torch.inference_mode():
        (output,) = model.eval()(images)
    assert len(output["boxes"]) > 5
    rows = torch.arange(len(output["labels"]))
    first, second, third = (stage.sigmoid()[rows, output["labels"]] for stage in logits)
    assert (first - second).abs().max() > 0.1, "the stages differ"
    mean = (first + second + third) / 3
    torch.testing.assert_close(output["masks"], paste_masks_in_image(mean[:, None], output["boxes"], (64, 64)))
