"""A training loop of one's own on torchvision's model has the bits of a trial with the same settings."""

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.models import detection
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import MultiScaleRoIAlign

import dynrcnn_ray as dr
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import with_values
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.models.detector import build_torchvision_model
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.loop import batches_of, seed_step, to_device
from dynrcnn_ray.training.optimizer import build_optimizer, learning_rate, set_learning_rate
from dynrcnn_ray.training.telemetry import DynamicsRow
from tests.models.test_mask_rcnn import batch_with_masks
from tests.prepared import prepared
from tests.processes import run_workers
from tests.trial_events import run_to_end

STEPS = 7
SAVED_AFTER = 3
"""In the middle of an interval."""
SETTINGS = {
    "train.steps": STEPS,
    "train.global_batch": 4,
    "train.reference_batch": 4,
    "train.shards": 1,
    "dynamic.update_interval": 2,
    "dynamic.initial_iou": 0.2,
    "run.log_every": 1,
}


def trial_of(smoke: TrialConfig, name: str, shards: int = 1) -> TrialConfig:
    return with_values(smoke, SETTINGS | {"model.name": name, "train.shards": shards})


@dataclasses.dataclass
class Run:
    """What a loop of one's own had in each step, and at its end."""

    rows: list[dict[str, float]]
    weights: dict[str, Tensor]
    saved: dict[str, Any]


def train(config: TrialConfig, shard: int = 0, resumed: dict[str, Any] | None = None, save_at: int = 0) -> Run:
    """A user's loop: a torchvision model, an optimiser, and the two calls. Batches and draws are those of the trial."""
    dataset = CocoDataset(config.data.root, config.data.train_split, include_masks=config.model.has_masks)
    torch.manual_seed(config.seed)
    model = build_torchvision_model(config, len(dataset.class_names))
    dynamic = dr.make_dynamic(
        model,
        iou_top_k=config.dynamic.iou_top_k,
        beta_top_k=config.dynamic.beta_top_k,
        update_interval=config.dynamic.update_interval,
        initial_iou=config.dynamic.initial_iou,
    )
    optimizer = build_optimizer(model, config)
    if resumed:
        for part, name in ((model, "model"), (optimizer, "optimizer"), (dynamic, "dynamic")):
            part.load_state_dict(resumed[name])
    detector = DistributedDataParallel(model) if torch.distributed.is_initialized() else model
    detector.train()
    given = batches_of(config, dataset, range(shard, shard + 1), start_step=dynamic.steps)
    run = Run([], {}, {})
    for step in range(dynamic.steps, config.total_steps):
        images, targets = next(given)
        seed_step(config.seed, step, shard)
        set_learning_rate(optimizer, learning_rate(config, step))
        losses = detector(to_device(images, torch.device("cpu")), targets)
        run.rows.append(
            {name: float(loss.detach()) for name, loss in losses.items()}
            | {"T_now": float(dynamic.iou_threshold), "beta_now": float(dynamic.beta)}
        )
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        dynamic.step()
        if dynamic.steps == save_at:
            parts = {"model": model, "optimizer": optimizer, "dynamic": dynamic}
            run.saved = copy.deepcopy({name: part.state_dict() for name, part in parts.items()})
    run.weights = model.state_dict()
    return run


def trial_rows(config: TrialConfig) -> tuple[list[DynamicsRow], dict[str, Tensor]]:
    weights: dict[str, Tensor] = {}
    outcome = run_to_end(
        config, Worker(), on_checkpoint=lambda state, _: weights.update(copy.deepcopy(state.model.state_dict()))
    )
    return outcome.history, weights


def assert_same_weights(ours: dict[str, Tensor], others: dict[str, Tensor]) -> None:
    assert ours.keys() == others.keys()
    assert not [name for name, value in others.items() if not torch.equal(ours[name], value)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faster_rcnn", "mask_rcnn"])
def test_losses_t_now_beta_now_and_weights_are_those_of_a_trial(name: str, smoke: TrialConfig, tmp_path: Path):
    config = trial_of(smoke, name)
    history, weights = trial_rows(config)
    run = train(config, save_at=SAVED_AFTER)
    assert run.rows == [{column: row[column] for column in run.rows[0]} for row in history]
    assert_same_weights(run.weights, weights)
    assert ("loss_mask" in run.rows[0]) == (name == "mask_rcnn")
    assert len({row["T_now"] for row in run.rows}) == len({row["beta_now"] for row in run.rows}) == 4

    torch.save(run.saved, tmp_path / "checkpoint.pt")
    resumed = train(config, resumed=torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    assert resumed.rows == run.rows[SAVED_AFTER:]
    assert_same_weights(resumed.weights, weights)


def train_on_two(worker: Worker, config: TrialConfig, folder: Path) -> None:
    run = train(config, worker.rank, save_at=SAVED_AFTER)
    torch.save(run.saved, folder / f"saved-{worker.rank}.pt")
    # The first one's file, as most programs have it.
    torch.distributed.barrier()
    resumed = train(config, worker.rank, torch.load(folder / "saved-0.pt", weights_only=True))
    torch.save([run, resumed], folder / f"run-{worker.rank}.pt")


@pytest.mark.slow
def test_two_processes_of_ddp_have_the_bits_of_a_trial_of_two_shards(smoke: TrialConfig, tmp_path: Path):
    config = prepared(trial_of(smoke, "faster_rcnn", shards=2))
    of_data = dataclasses.replace(config.config.data, root=config.inputs.data_root)
    history, weights = trial_rows(config.config)
    run_workers(train_on_two, 2, tmp_path, dataclasses.replace(config.config, data=of_data), tmp_path)
    runs = [torch.load(tmp_path / f"run-{rank}.pt", weights_only=False) for rank in range(2)]
    for run, resumed in runs:
        followed = [(row["T_now"], row["beta_now"]) for row in run.rows]
        assert followed == [(row["T_now"], row["beta_now"]) for row in history]
        assert len(set(followed)) == 4
        assert_same_weights(run.weights, weights)
        assert resumed.rows == run.rows[SAVED_AFTER:]
        assert_same_weights(resumed.weights, weights)
    assert runs[0][0].rows != runs[1][0].rows, "each has losses of its own images"


# Models of one's own.


ABOVE_THE_TRUTHS = {"beta_top_k": 128}
"""Of the 32 RoIs here the eighth. The ground truths have an error of zero, which no beta follows."""


class OwnBackbone(nn.Module):
    """One level."""

    out_channels = 8

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, stride=8, padding=1), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class OwnPredictor(nn.Module):
    """Scores and boxes from a layer each, and one more."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.before = nn.Linear(channels, channels)
        self.last = FastRCNNPredictor(channels, num_classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.last(self.before(features).relu())


def own_model(kind: type[FasterRCNN] = FasterRCNN, **settings: Any) -> FasterRCNN:
    torch.manual_seed(0)
    pools: dict[str, Any] = {"box_roi_pool": MultiScaleRoIAlign(["0"], 7, 2)}
    if kind is MaskRCNN:
        pools["mask_roi_pool"] = MultiScaleRoIAlign(["0"], 14, 2)
    return kind(
        OwnBackbone(),
        min_size=64,
        max_size=96,
        rpn_anchor_generator=AnchorGenerator(((8, 16, 32),), ((0.5, 1.0, 2.0),)),
        box_head=TwoMLPHead(8 * 49, 16),
        box_predictor=OwnPredictor(16, 4),
        box_detections_per_img=7,
        box_score_thresh=0.1,
        box_batch_size_per_image=32,
        **pools,
        **({"num_classes": None} | ({} if kind is FasterRCNN else small_mask_head()) | settings),
    )


def small_mask_head() -> dict[str, nn.Module]:
    return {
        "mask_head": detection.mask_rcnn.MaskRCNNHeads(8, (8,), 1),
        "mask_predictor": detection.mask_rcnn.MaskRCNNPredictor(8, 8, 4),
    }


def step(model: FasterRCNN, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return model(*batch_with_masks(seed))


@pytest.mark.parametrize("kind", [FasterRCNN, MaskRCNN])
def test_own_backbone_heads_and_predictors_train_and_load_into_the_plain_model(kind: type[FasterRCNN]):
    plain, model = own_model(kind), own_model(kind)
    calls: list[str] = []
    model.roi_heads.register_forward_hook(lambda *_: calls.append("heads"))
    kept = {name: getattr(model.roi_heads, name) for name in ("box_head", "box_predictor", "mask_head")}
    dynamic = dr.make_dynamic(model, update_interval=2, initial_iou=0.2)
    assert {name: getattr(model.roi_heads, name) for name in kept} == kept
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for number in range(4):
        losses = step(model, number)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        dynamic.step()
    assert calls == ["heads"] * 4, "hooks stay"
    assert float(dynamic.iou_threshold) > 0.2

    plain.load_state_dict(model.state_dict(), strict=True)
    image = [torch.rand(3, 64, 80)]
    with torch.inference_mode():
        ours, theirs = model.eval()(image), plain.eval()(image)
    assert len(ours[0]["boxes"]) <= 7
    assert ours[0].keys() == theirs[0].keys()
    assert all(torch.equal(ours[0][name], value) for name, value in theirs[0].items())


@pytest.mark.parametrize("kind", [FasterRCNN, MaskRCNN])
def test_at_torchvisions_threshold_and_beta_the_losses_are_torchvisions(kind: type[FasterRCNN]):
    plain, model = own_model(kind), own_model(kind)
    dr.make_dynamic(model, initial_iou=0.5, initial_beta=1 / 9)
    torch.testing.assert_close(step(model), step(plain))


def test_mixed_precision_trains_with_the_same_state():
    model = own_model(MaskRCNN)
    dynamic = dr.make_dynamic(model, update_interval=1, initial_iou=0.2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = step(model)
    torch.stack([loss.float() for loss in losses.values()]).sum().backward()
    dynamic.step()
    assert all(loss.isfinite() for loss in losses.values())
    assert dynamic.iou_threshold.dtype == torch.float32
    assert float(dynamic.iou_threshold) > 0.2


def test_k_is_scaled_to_the_rois_that_the_model_samples():
    model = own_model()
    dr.make_dynamic(model, iou_top_k=64, beta_top_k=32)
    assert (model.roi_heads.dynamic.iou_top_k, model.roi_heads.dynamic.beta_top_k) == (4, 2)


def test_a_loss_of_validation_is_not_recorded_and_no_step_may_be_forgotten():
    model = own_model()
    dynamic = dr.make_dynamic(model)
    with torch.no_grad():
        step(model)
    assert not len(dynamic.state_dict()["ious"])
    step(model)
    assert len(dynamic.state_dict()["ious"]) == 4
    values = torch.zeros(1)
    for _ in range(998):
        dynamic.record(values, values)
    with pytest.warns(UserWarning, match=r"call step\(\)"):
        dynamic.record(values, values)


def test_a_step_of_several_passes_is_that_of_one_with_all_their_images():
    images, targets = batch_with_masks(3)
    halves = [own_model() for _ in range(2)]
    whole, parts = (
        dr.make_dynamic(model, update_interval=1, initial_iou=0.2, initial_beta=50, **ABOVE_THE_TRUTHS)
        for model in halves
    )
    # The RPN's proposals of an image do not depend on what else is in the batch, as all have one size.
    halves[0](images, targets)
    for part in (slice(0, 1), slice(1, 4)):
        halves[1](images[part], targets[part])
    for dynamic in (whole, parts):
        dynamic.step()
    torch.testing.assert_close(whole.iou_threshold, parts.iou_threshold)
    torch.testing.assert_close(whole.beta, parts.beta)
    assert float(whole.iou_threshold) > 0.2
    assert float(whole.beta) < 50


def test_a_copy_and_a_saved_model_train_on(tmp_path: Path):
    model = own_model()
    dr.make_dynamic(model)
    torch.save(model, tmp_path / "model.pt")
    for other in (copy.deepcopy(model), torch.load(tmp_path / "model.pt", weights_only=False)):
        assert step(other).keys() == step(model).keys()


class OwnHeads(RoIHeads):
    """Labels of one's own would be lost."""


def with_own_heads() -> FasterRCNN:
    model = own_model()
    model.roi_heads.__class__ = OwnHeads
    return model


def made_twice() -> FasterRCNN:
    model = own_model()
    dr.make_dynamic(model)
    return model


def keypoints() -> nn.Module:
    return detection.keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_keypoints=3)


def one_stage() -> nn.Module:
    return detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (one_stage, "SSD is no Faster or Mask R-CNN .* no proposals"),
        (keypoints, "keypoints"),
        (with_own_heads, "OwnHeads is a class of your own"),
        (made_twice, "already"),
        (lambda: nn.DataParallel(own_model()), r"its \.module"),
        (lambda: "fasterrcnn", "str is no Faster"),
    ],
    ids=["one stage", "keypoints", "own heads", "twice", "wrapped", "no model"],
)
def test_what_cannot_train_dynamically_is_refused(build: Any, told: str):
    with pytest.raises(ValueError, match=told) as caught:
        dr.make_dynamic(build())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value"), [("iou_top_k", 0), ("beta_top_k", 600), ("update_interval", 0), ("initial_iou", 1.5)]
)
def test_a_setting_out_of_range_is_refused_by_its_name(setting: str, value: float):
    with pytest.raises(ValueError, match=f"^{setting}: {value} must"):
        dr.make_dynamic(own_model(), **{setting: value})  # pyright: ignore[reportArgumentType]


def test_targets_of_other_types_are_refused():
    model = own_model()
    dr.make_dynamic(model)
    images, targets = batch_with_masks(0)
    for target in targets:
        target["labels"] = target["labels"].int()
    with pytest.raises(ValueError, match=r"labels torch\.int32; they must be"):
        model(images, targets)


# The statistic alone.


def test_t_now_is_the_mean_and_beta_now_the_median_of_what_was_recorded():
    generator = np.random.default_rng(0)
    dynamic = dr.DynamicTraining(update_interval=3, initial_iou=0.3)
    ious, errors = generator.uniform(0.3, 0.9, (3, 5)), generator.uniform(0.1, 0.9, (3, 4))
    errors[1, 2] = math.inf
    for number in range(3):
        dynamic.record(torch.tensor(ious[number]), torch.tensor(errors[number]))
        before = float(dynamic.iou_threshold), float(dynamic.beta)
        dynamic.step()
    assert before == pytest.approx((0.3, 1.0))
    assert float(dynamic.iou_threshold) == pytest.approx(ious.mean(), rel=1e-6)
    assert float(dynamic.beta) == pytest.approx(np.median(errors[np.isfinite(errors)]), rel=1e-6)


def test_values_that_were_read_stay_as_they_were():
    dynamic = dr.DynamicTraining(update_interval=1)
    before = dynamic.iou_threshold, dynamic.beta
    dynamic.record(torch.tensor(0.75), torch.tensor(0.5))
    dynamic.step()
    assert [float(value) for value in (*before, dynamic.iou_threshold, dynamic.beta)] == [
        pytest.approx(0.4),
        1.0,
        0.75,
        0.5,
    ]


def test_an_interval_without_values_keeps_both():
    dynamic = dr.DynamicTraining(update_interval=1)
    for values in (None, torch.tensor([math.nan]), torch.empty(0)):
        if values is not None:
            dynamic.record(values, values)
        dynamic.step()
        assert (float(dynamic.iou_threshold), float(dynamic.beta)) == (pytest.approx(0.4), 1.0)


def test_what_is_measured_is_what_a_model_records():
    model = own_model()
    dynamic = dr.make_dynamic(model, update_interval=1)
    given: dict[str, Any] = {}
    model.roi_heads.register_forward_pre_hook(lambda _, inputs: given.update(proposals=inputs[1], targets=inputs[3]))
    step(model)
    truths = [target["boxes"] for target in given["targets"]]
    with_truths = [torch.cat(each) for each in zip(given["proposals"], truths, strict=True)]
    alone = dr.DynamicTraining(rois_per_image=32)
    ious, errors = alone.measure(with_truths, truths)
    recorded = dynamic.state_dict()
    assert torch.equal(recorded["ious"], ious)
    assert torch.equal(recorded["errors"], errors)
    assert ious.isfinite().any()


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda dynamic: dynamic.record([0.5], torch.tensor(0.5)), "ious is list, not a tensor"),
        (lambda dynamic: dynamic.measure([torch.zeros(1, 4)], []), "1 images and gt_boxes of 0"),
        (lambda dynamic: dynamic.load_state_dict({"step": 1}), "no state of dynamic training"),
        (lambda dynamic: dynamic.load_state_dict(dr.DynamicTraining(update_interval=7).state_dict()), "interval"),
    ],
)
def test_a_mistake_is_told_in_a_line(call: Any, told: str):
    with pytest.raises(ValueError, match=told):
        call(dr.DynamicTraining())


def record_unequal(worker: Worker, folder: Path) -> None:
    """The first process has an image in each step, the second none, the third two, of which one has no positive."""
    dynamic = dr.DynamicTraining(update_interval=2)
    for number in range(2):
        ious = [[0.5], [], [0.75, math.nan]][worker.rank]
        dynamic.record(torch.tensor(ious) + number / 8, torch.tensor(ious))
        if number == 0:
            state = dynamic.state_dict()
        dynamic.step()
    torch.save([float(dynamic.iou_threshold), float(dynamic.beta), state], folder / f"{worker.rank}.pt")


@pytest.mark.slow
def test_processes_with_other_numbers_of_images_follow_all_of_them(tmp_path: Path):
    run_workers(record_unequal, 3, tmp_path, tmp_path)
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(3)]
    assert [each[:2] for each in found] == [[0.6875, 0.625]] * 3
    for *_, state in found:
        assert state["ious"][state["ious"].isfinite()].tolist() == [0.5, 0.75]
        alone = dr.DynamicTraining(update_interval=2)
        alone.load_state_dict(state)
        alone.step()
        alone.record(torch.tensor([0.625, 0.875]), torch.tensor([0.5, 0.75]))
        alone.step()
        assert alone.steps == 2
