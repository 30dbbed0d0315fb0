"""Cascade R-CNN against its definition: what each stage sees, learns and says is worked out by hand."""

import dataclasses
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import batched_nms, box_iou

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.models.cascade import STAGES, CascadeRoIHeads, ClassAgnosticPredictor
from tests.models.test_detector import NUM_CLASSES, model_and_state, random_batch

pytestmark = pytest.mark.usefixtures("_float64")
SIDE = 64
IOUS = (0.5, 0.6, 0.7)
CODER_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))
LOSS_WEIGHTS = (1.0, 0.5, 0.25)
BETA = 0.5


def trial(name: str = "cascade_rcnn", **model: Any) -> TrialConfig:
    base = base_config("smoke")
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, name=name, **model),
        dynamic=dataclasses.replace(base.dynamic, dla=False, dsl=False, fixed_beta=BETA),
        train=dataclasses.replace(base.train, shards=1),  # A batch of a test is one shard's.
    )


def opinionated_model(config: TrialConfig) -> FasterRCNN:
    """An untrained detector whose boxes and scores differ widely, as a trained one's do."""
    model, _ = model_and_state(config)
    for name, weight in model.roi_heads.named_parameters():
        if name.endswith(("cls_score.weight", "bbox_pred.weight")):
            nn.init.normal_(weight, std=0.1)
    return model


class WatchedHeads(CascadeRoIHeads):
    """Remembers the RPN's proposals, and each stage's labels, sample, pooled boxes and predictions."""

    def watch(self) -> None:
        self.proposals: list[Tensor] = []
        self.labels: list[list[Tensor]] = []
        self.sampled: list[list[Tensor]] = []
        self.pooled: list[list[Tensor]] = []
        self.logits: list[Tensor] = []
        self.offsets: list[Tensor] = []
        self.box_roi_pool.register_forward_pre_hook(lambda _, inputs: self.pooled.append(inputs[1]))
        for predictor in self.box_predictor:
            predictor.register_forward_hook(lambda _, __, output: self.logits.append(output[0].detach()))
            predictor.register_forward_hook(lambda _, __, output: self.offsets.append(output[1].detach()))

    def forward(self, features, proposals, image_shapes, targets=None):
        self.proposals = proposals
        return super().forward(features, proposals, image_shapes, targets)

    def subsample(self, labels: list[Tensor]) -> list[Tensor]:
        self.labels.append(labels)
        self.sampled.append(super().subsample(labels))
        return self.sampled[-1]


def watched_cascade(config: TrialConfig) -> tuple[FasterRCNN, WatchedHeads]:
    model = opinionated_model(config)
    model.roi_heads.__class__ = WatchedHeads
    model.roi_heads.watch()
    return model, model.roi_heads


def refined_by_hand(heads: WatchedHeads, stage: int) -> list[Tensor]:
    """What the stage makes of its boxes: centres moved, sides scaled, cut off at the image's border."""
    boxes = torch.cat(heads.pooled[stage])
    dx, dy, dw, dh = (heads.offsets[stage] / torch.tensor(CODER_WEIGHTS[stage])).unbind(dim=1)
    sizes = boxes[:, 2:] - boxes[:, :2]
    centres = boxes[:, :2] + sizes / 2 + torch.stack([dx, dy], dim=1) * sizes
    half = sizes / 2 * torch.stack([dw, dh], dim=1).clamp(max=math.log(1000 / 16)).exp()
    refined = torch.cat([centres - half, centres + half], dim=1)
    assert stage > 0 or refined.min() < 0 < SIDE < refined.max(), "some boxes leave the image, and have to be clipped"
    return list(refined.clamp(0, SIDE).split([len(boxes) for boxes in heads.pooled[stage]]))


def test_the_stages_settings_are_those_of_the_specification():
    assert tuple(stage.iou for stage in STAGES) == IOUS
    assert tuple(stage.coder_weights for stage in STAGES) == CODER_WEIGHTS
    assert tuple(stage.loss_weight for stage in STAGES) == LOSS_WEIGHTS


def test_a_stage_trains_on_refined_boxes_and_objects_labelled_at_its_own_iou():
    model, heads = watched_cascade(trial())
    images, targets = random_batch(1)
    model(images, targets)
    boxes = heads.proposals
    for stage, threshold in enumerate(IOUS):
        labels_at_half = []
        for index, target in enumerate(targets):
            candidates = torch.cat([boxes[index], target["boxes"]])
            iou, matched = box_iou(candidates, target["boxes"]).max(dim=1)
            labels = torch.where(iou >= threshold, target["labels"][matched], 0)
            labels_at_half.append(torch.where(iou >= 0.5, target["labels"][matched], 0))
            assert torch.equal(heads.labels[stage][index], labels)
            sampled = heads.sampled[stage][index]
            assert 0 < len(sampled) <= 128
            torch.testing.assert_close(heads.pooled[stage][index], candidates[sampled])
        if stage > 0:
            assert not torch.equal(torch.cat(heads.labels[stage]), torch.cat(labels_at_half)), "the IoU matters here"
        boxes = [
            refined[sampled < len(proposed)]
            for refined, sampled, proposed in zip(
                refined_by_hand(heads, stage), heads.sampled[stage], boxes, strict=True
            )
        ]


def test_no_box_made_of_an_appended_ground_truth_enters_the_next_stage():
    """No stage moves a box here, so that every copy of a ground truth would stay where it is."""
    model, heads = watched_cascade(trial())
    for predictor in heads.box_predictor:
        nn.init.zeros_(predictor.bbox_pred.weight)
    counts = (7, 0, 4)
    images, targets = random_batch(6, objects=counts)
    model(images, targets)
    for stage in range(3):
        copies = [
            int((boxes[:, None] - target["boxes"]).abs().amax(dim=2).lt(0.01).sum())
            for boxes, target in zip(heads.pooled[stage], targets, strict=True)
        ]
        assert copies == list(counts), "once each"
    for sampled, candidates in zip(heads.sampled[:2], heads.labels[1:], strict=True):
        assert [len(of_image) for of_image in candidates] == [len(of_image) for of_image in sampled], "out and in again"


def test_no_stage_follows_the_dynamic_state():
    config = trial()
    config = dataclasses.replace(config, dynamic=dataclasses.replace(config.dynamic, dla=True, dsl=True))
    losses = []
    for iou, beta in [(0.4, 1.0), (0.9, 0.01)]:
        model = opinionated_model(config)
        model.roi_heads.dynamic.iou_now.fill_(iou)
        model.roi_heads.dynamic.beta_now.fill_(beta)
        torch.manual_seed(5)
        losses.append(model(*random_batch(1)))
    assert losses[0] == losses[1]


def test_the_losses_are_weighted_sums_over_the_stages():
    model, heads = watched_cascade(trial())
    images, targets = random_batch(2)
    losses = model(images, targets)
    classifier, box_reg = torch.zeros(2)
    for stage, weight in enumerate(LOSS_WEIGHTS):
        boxes = torch.cat(heads.pooled[stage])
        samples = zip(heads.labels[stage], heads.sampled[stage], strict=True)
        labels = torch.cat([labels[sampled] for labels, sampled in samples])
        matched = torch.cat(
            [
                target["boxes"][box_iou(pooled, target["boxes"]).argmax(dim=1)]
                for pooled, target in zip(heads.pooled[stage], targets, strict=True)
            ]
        )
        positive = labels > 0
        goals = BoxCoder(CODER_WEIGHTS[stage]).encode_single(matched[positive], boxes[positive])
        errors = F.smooth_l1_loss(heads.offsets[stage][positive], goals, beta=BETA, reduction="sum")
        classifier += weight * F.cross_entropy(heads.logits[stage], labels)
        box_reg += weight * errors / len(labels)
    torch.testing.assert_close(losses["loss_classifier"], classifier)
    torch.testing.assert_close(losses["loss_box_reg"], box_reg)


def test_in_testing_the_stages_refine_in_turn_and_average_their_scores():
    config = trial(score_threshold=0.3)
    model, heads = watched_cascade(config)
    model.eval()
    images, _ = random_batch(3, objects=(1,))
    with torch.inference_mode():
        (output,) = model(images)
    (boxes,) = heads.proposals
    for stage in range(3):
        torch.testing.assert_close(heads.pooled[stage][0], boxes)
        (boxes,) = refined_by_hand(heads, stage)
    scores = torch.stack([logits.softmax(dim=1) for logits in heads.logits]).mean(dim=0)[:, 1:]
    rows, classes = torch.where(scores > 0.3)
    keep = batched_nms(boxes[rows], scores[rows, classes], classes, config.model.nms_iou)[:100]
    assert len(keep) > 10
    torch.testing.assert_close(output["scores"], scores[rows, classes][keep])
    torch.testing.assert_close(output["boxes"], boxes[rows][keep])
    assert torch.equal(output["labels"], classes[keep] + 1)


def test_one_stage_is_a_faster_rcnn_with_the_same_box_for_every_class():
    """Losses in training and detections in testing."""
    faster = opinionated_model(trial("faster_rcnn"))
    heads = faster.roi_heads
    agnostic = ClassAgnosticPredictor(256, NUM_CLASSES + 1)
    agnostic.cls_score.load_state_dict(heads.box_predictor.cls_score.state_dict())
    nn.init.normal_(agnostic.bbox_pred.weight, std=0.1)
    with torch.no_grad():
        heads.box_predictor.bbox_pred.weight.copy_(agnostic.bbox_pred.weight.repeat(NUM_CLASSES + 1, 1))
        heads.box_predictor.bbox_pred.bias.copy_(agnostic.bbox_pred.bias.repeat(NUM_CLASSES + 1))
    one_stage = CascadeRoIHeads(
        trial(),
        heads.dynamic,
        stages=STAGES[:1],
        box_roi_pool=heads.box_roi_pool,
        box_head=nn.ModuleList([heads.box_head]),
        box_predictor=nn.ModuleList([agnostic]),
    )

    def train_and_detect() -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
        torch.manual_seed(5)
        losses = faster.train()(*random_batch(4, objects=(3, 0, 2)))
        with torch.inference_mode():
            return losses, faster.eval()(random_batch(4)[0])

    losses, outputs = train_and_detect()
    faster.roi_heads = one_stage
    stage_losses, stage_outputs = train_and_detect()
    torch.testing.assert_close(stage_losses, losses)
    assert all(len(output["boxes"]) > 10 for output in outputs)
    torch.testing.assert_close(stage_outputs, outputs)


def test_boxes_are_class_agnostic():
    model, _ = model_and_state(trial())
    for predictor in model.roi_heads.box_predictor:
        scores, offsets = predictor(torch.rand(5, 256))
        assert scores.shape == (5, NUM_CLASSES + 1)
        assert offsets.shape == (5, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "push", [(1e4, 0, 0, 0), (0, -1e4, 0, 0), (0, 0, -1e4, 0), (0, 0, -1e4, -1e4)], ids=["right", "up", "thin", "point"]
)
def test_boxes_without_area_make_no_loss_or_gradient_nan(push: tuple[float, ...]):
    """The first stage pushes every box out of the image, or squeezes it to nothing."""
    model, heads = watched_cascade(trial())
    with torch.no_grad():
        heads.box_predictor[0].bbox_pred.bias.copy_(torch.tensor(push))
    losses = model(*random_batch(5, objects=(3, 0, 2)))
    second = torch.cat(heads.pooled[1])
    assert ((second[:, 2:] - second[:, :2]).min(dim=1).values == 0).sum() > 100
    assert all(loss.isfinite() for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert all(value.grad.isfinite().all() for value in model.parameters() if value.grad is not None)
    with torch.inference_mode():
        for output in model.eval()(random_batch(5)[0]):
            assert all(value.isfinite().all() for value in output.values())


@pytest.mark.parametrize(
    ("name", "soft_nms"),
    [
        ("faster_rcnn", "off"),
        ("faster_rcnn", "linear"),
        ("cascade_rcnn", "off"),
        ("cascade_rcnn", "linear"),
    ],
)
def test_no_proposals_no_detections(name: str, soft_nms: str):
    config = trial(name)
    model, _ = model_and_state(dataclasses.replace(config, test=dataclasses.replace(config.test, soft_nms=soft_nms)))
    model.rpn.register_forward_hook(lambda _, __, ___: ([torch.zeros(0, 4)], {}))
    with torch.inference_mode():
        (output,) = model.eval()(random_batch(0, objects=(1,))[0])
    assert output["boxes"].shape == (0, 4)
    assert len(output["scores"]) == len(output["labels"]) == 0
