"""Several input sizes: one drawn per image in training, all of them together in testing."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.sampler import TrainSampler
from dynrcnn_ray.models.detections import Candidates, select
from dynrcnn_ray.models.input_size import InputSizeTransform
from dynrcnn_ray.models.multi_scale import detect_at_sizes, detect_multi_scale
from tests.models.test_cascade import opinionated_model, trial

FLOAT64 = pytest.mark.usefixtures("_float64")
DETECTORS = pytest.mark.parametrize("name", ["faster_rcnn", "cascade_rcnn"])
SUPPRESSIONS = pytest.mark.parametrize("soft_nms", ["off", "linear", "gaussian"])


def detector(name: str = "faster_rcnn", **test: Any) -> tuple[FasterRCNN, TrialConfig]:
    """One whose images end up with a short side of 48 or a long side of 80."""
    config = trial(name)
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, short_side=48, long_side=80),
        test=dataclasses.replace(config.test, **test),
    )
    return opinionated_model(config).eval(), config


def image(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def in_order(output: dict[str, Tensor]) -> dict[str, Tensor]:
    """By label and score: rounding may swap neighbours of almost the same score."""
    order = torch.argsort(output["labels"] * 10 - output["scores"])
    return {name: value[order] for name, value in output.items()}


def input_shapes(model: FasterRCNN) -> list[tuple[int, int]]:
    """Fills with the size of each batch that enters the backbone."""
    shapes: list[tuple[int, int]] = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape[2:])))
    return shapes


@FLOAT64
@DETECTORS
@SUPPRESSIONS
@pytest.mark.parametrize("shape", [(48, 64), (60, 40), (33, 70)])
@torch.inference_mode()
def test_one_size_without_mirroring_is_plain_inference(name: str, soft_nms: str, shape: tuple[int, int]):
    model, config = detector(name, soft_nms=soft_nms)
    (plain,) = model([image(*shape)])
    assert len(plain["boxes"]) > 10
    multi = detect_at_sizes(model, image(*shape), config, sizes=[(48, 80)], mirrored=(False,))
    torch.testing.assert_close(in_order(multi), in_order(plain))


@pytest.mark.slow
@FLOAT64
@DETECTORS
@SUPPRESSIONS
@torch.inference_mode()
def test_a_mirrored_image_has_mirrored_detections(name: str, soft_nms: str):
    model, config = detector(name, soft_nms=soft_nms)
    picture = image(44, 70)
    ours, mirrored = (
        detect_at_sizes(model, side, config, sizes=[(48, 80), (64, 96)], mirrored=(False, True))
        for side in (picture, picture.flip(2))
    )
    assert len(ours["boxes"]) > 10
    left, top, right, bottom = mirrored["boxes"].unbind(dim=1)
    mirrored["boxes"] = torch.stack([70 - right, top, 70 - left, bottom], dim=1)
    torch.testing.assert_close(in_order(ours), in_order(mirrored))


@FLOAT64
@torch.inference_mode()
def test_every_size_and_its_mirror_image_are_looked_at():
    model, config = detector(multi_scale_short_sides=(32, 96), multi_scale_long_side=128)
    seen: list[Tensor] = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    (output,) = detect_multi_scale(model, [image(32, 64)], config)
    # Shrunk to a long side of 80 and padded to a multiple of 32; 32 as it is; 96 would be 192 wide.
    assert [tuple(batch.shape[2:]) for batch in seen] == 2 * [(64, 96)] + 2 * [(32, 64)] + 2 * [(64, 128)]
    for plain, mirrored in (seen[2:4], seen[4:6]):
        torch.testing.assert_close(mirrored, plain.flip(3))
    assert 10 < len(output["boxes"]) <= config.model.detections_per_image


@FLOAT64
@torch.inference_mode()
def test_all_sizes_share_one_final_nms():
    """The same size twice adds nothing: each detection's double is suppressed."""
    model, config = detector()
    once, twice = (
        detect_at_sizes(model, image(48, 64), config, sizes=sizes, mirrored=(False,))
        for sizes in ([(48, 80)], [(48, 80), (48, 80)])
    )
    torch.testing.assert_close(in_order(once), in_order(twice))


@torch.inference_mode()
def test_the_models_own_size_is_left_as_it_was():
    model, config = detector(multi_scale_short_sides=(32, 96), multi_scale_long_side=128)
    shapes = input_shapes(model)
    detect_multi_scale(model, [image(48, 64)], config)
    assert model.transform.test_size == (48, 80)
    with pytest.raises(RuntimeError):
        detect_at_sizes(model, torch.rand(2, 48, 64), config, sizes=[(96, 128)], mirrored=(False,))
    assert model.transform.test_size == (48, 80)
    model([image(48, 64)])
    assert shapes[-1] == (64, 64)


@pytest.mark.parametrize("soft_nms", ["off", "linear", "gaussian"])
def test_boxes_without_area_displace_no_detections(soft_nms: str):
    """As a refined box cut off at the image's border may be."""
    _, config = detector(soft_nms=soft_nms)
    boxes = torch.tensor([[0.0, 0, 0, 9], [0, 0, 0, 9], [5, 5, 20, 20], [30, 30, 50, 50]])
    scores = torch.tensor([[0.9, 0.9], [0.9, 0.9], [0.8, 0.0], [0.0, 0.7]])
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, detections_per_image=3))
    _, (kept_scores,), (labels,) = select([Candidates(boxes[:, None].expand(-1, 2, -1), scores)], config)
    assert labels.tolist() == [1, 2]
    assert kept_scores.tolist() == pytest.approx([0.8, 0.7])


MULTI_SCALE = DataConfig(short_side=48, long_side=80, train_short_sides=(32, 40, 56), train_long_side=100)


def sizes_in_training(data: DataConfig, shape: tuple[int, int], steps: int = 10, shards: int = 1) -> list[tuple]:
    """The size of every image that enters the network, from the sampler's draw to the transform."""
    transform = InputSizeTransform(data).train()
    sizes = []
    for step in range(steps):
        for shard in range(shards):
            sampler = TrainSampler(
                np.array([shape[::-1]] * 4),
                global_batch=4,
                total_steps=steps,
                start_step=step,
                seed=3,
                flip_probability=0.5,
                short_sides=data.train_short_sides,
                shards=shards,
                own_shards=range(shard, shard + 1),
            )
            samples = next(iter(sampler))
            targets = [{"boxes": torch.zeros(0, 4), "short_side": sample.short_side} for sample in samples]
            sizes += transform([image(*shape)] * len(samples), targets)[0].image_sizes
    return sizes


def test_training_draws_every_short_side_and_each_image_its_own():
    sizes = sizes_in_training(MULTI_SCALE, (20, 30))
    assert set(sizes) == {(32, 48), (40, 60), (56, 84)}
    assert any(len(set(sizes[first : first + 4])) > 1 for first in range(0, 40, 4))


def test_the_draw_does_not_depend_on_the_number_of_workers():
    assert sizes_in_training(MULTI_SCALE, (20, 30)) == sizes_in_training(MULTI_SCALE, (20, 30), shards=2)


def test_the_long_side_is_limited_in_training():
    assert set(sizes_in_training(MULTI_SCALE, (60, 20))) == {(96, 32), (100, 33)}


def test_without_multi_scale_training_the_sizes_are_those_of_testing():
    single = dataclasses.replace(MULTI_SCALE, train_short_sides=())
    assert set(sizes_in_training(single, (20, 30))) == {(48, 72)}
    assert set(sizes_in_training(single, (20, 60))) == {(26, 80)}


@pytest.mark.parametrize("data", [MULTI_SCALE, dataclasses.replace(MULTI_SCALE, train_short_sides=())])
def test_testing_knows_one_size(data: DataConfig):
    transform = InputSizeTransform(data)
    transform.train()([image(20, 30)])
    transform.eval()
    for shape, expected in [((20, 30), (48, 72)), ((20, 60), (26, 80))]:
        assert {transform([image(*shape)])[0].image_sizes[0] for _ in range(10)} == {expected}


def test_boxes_and_masks_are_resized_with_their_image():
    masks = torch.zeros(1, 20, 30, dtype=torch.uint8)
    masks[:, 10:, :15] = 1
    target = {"boxes": torch.tensor([[0.0, 10.0, 15.0, 20.0]]), "masks": masks}
    all_targets = [target | {"short_side": side} for side in MULTI_SCALE.train_short_sides]
    images, targets = InputSizeTransform(MULTI_SCALE).train()([image(20, 30)] * 3, all_targets)
    assert len(set(images.image_sizes)) == 3
    for (height, width), resized in zip(images.image_sizes, targets, strict=True):
        assert resized["boxes"].tolist() == [[0, height / 2, width / 2, height]]
        assert resized["masks"].shape == (1, height, width)
        assert resized["masks"][0, height // 2 :, : width // 2].all()
        assert resized["masks"].sum() == height * width / 4
