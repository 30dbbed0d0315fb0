"""Which ranks and sizes suit a data set."""

import dataclasses

import numpy as np
import pytest

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.check.advice import (
    rank_as_on_coco,
    rank_lines,
    ranks_to_try,
    share_that_hold,
    smallest_usable_rank,
)
from dynrcnn_ray.data.check.check_split import Objects
from dynrcnn_ray.data.check.object_sizes import Sizes, fitting_sizes, sides


@pytest.mark.parametrize("rois", [128, 512])
@pytest.mark.parametrize("objects", [1, 2, 5, 14, 44, 120])
def test_the_smallest_usable_rank_is_the_first_that_most_images_do_not_reach(rois: int, objects: int):
    base = base_config("coco")
    config = dataclasses.replace(base, model=dataclasses.replace(base.model, rois_per_image=rois))
    held = np.random.default_rng(0).poisson(objects, 500) + 1
    found = smallest_usable_rank("beta_top_k", held, config)
    assert found is not None

    def share(stated: int) -> float:
        ranked = dataclasses.replace(config, dynamic=dataclasses.replace(config.dynamic, beta_top_k=stated))
        return share_that_hold(ranked.beta_top_k, held)

    assert share(found) < 0.5
    assert found == 1 or share(found - 1) >= 0.5


@pytest.mark.parametrize("scale", ["mini", "coco"])
@pytest.mark.parametrize("objects", [1, 3, 7, 14, 44, 200])
def test_nothing_useless_is_proposed(scale: str, objects: int):
    config = base_config(scale)  # pyright: ignore[reportArgumentType]
    counts = np.random.default_rng(1).poisson(objects, 400)
    lines, flags = rank_lines(counts, config)
    if "--dynamic.no-count-ground-truths" in flags:
        assert any("helps" in line for line in lines)
        return
    fields = {flag.removeprefix("--dynamic.").replace("-", "_"): int(value) for flag, (value,) in flags.items()}
    again, more = rank_lines(counts, dataclasses.replace(config, dynamic=dataclasses.replace(config.dynamic, **fields)))
    assert not more
    assert not any("hold" in line for line in again)
    tried = ranks_to_try(fields.get("iou_top_k", 75), counts, config)
    assert all(
        share_that_hold(
            dataclasses.replace(config, dynamic=dataclasses.replace(config.dynamic, iou_top_k=rank)).iou_top_k,
            counts[counts > 0],
        )
        < 0.5
        for rank in tried
    )


@pytest.mark.parametrize(("name", "of_coco"), [("iou_top_k", 75), ("beta_top_k", 10)])
def test_the_rule_is_the_papers_on_coco_and_grows_with_mosaics(name: str, of_coco: int):
    """Four images in one hold four times the objects and proposals: four times the rank measures the same."""
    assert rank_as_on_coco(name, 7.3, 512) == pytest.approx(of_coco)
    for objects, rois in ((2, 512), (3, 128), (14, 128), (44, 64)):
        rank = rank_as_on_coco(name, objects, rois)
        assert rank_as_on_coco(name, 4 * objects, 4 * rois) == pytest.approx(4 * rank)
        assert rank_as_on_coco(name, objects, 2 * rois) >= rank > objects


def test_images_of_two_kinds_are_told():
    """Chess boards: single pieces, and whole boards. One broad kind is none of these."""
    rng = np.random.default_rng(0)
    boards = np.concatenate([np.ones(300, dtype=int), rng.integers(20, 33, 170)])
    (line, *_), _ = rank_lines(boards, base_config("mini"))
    assert "images are of two kinds: 64% hold about 1 objects, the others about 26" in line
    assert "(the median of all is 1, the mean 10)" in line
    broad = (rng.poisson(7, 500), rng.integers(1, 40, 500), np.exp(rng.normal(2, 1, 500)).astype(int) + 1)
    for counts in (*broad, np.full(50, 4), np.array([3]), np.array([1, 100])):
        lines, _ = rank_lines(counts, base_config("mini"))
        assert not any("two kinds" in line for line in lines[: len(counts) > 2]), counts


def objects(side: float, image: tuple[int, int], count: int = 50) -> Objects:
    """Squares of such a side, in images of such a size."""
    boxes = np.tile(np.array([0, 0, side, side], dtype=np.float32), (count, 1))
    return Objects(boxes, np.arange(count), np.tile(np.array(image), (count, 1)))


def at(scale: str, **fields: int) -> TrialConfig:
    base = base_config(scale)  # pyright: ignore[reportArgumentType]
    return dataclasses.replace(base, data=dataclasses.replace(base.data, **fields))


def test_sides_are_those_of_the_resized_image():
    assert sides(objects(20, (640, 480)), 240, 1000) == pytest.approx(10)
    assert sides(objects(20, (640, 480)), 240, 160) == pytest.approx(5)


def test_a_new_detector_gets_images_large_enough_to_see_and_anchors_small_enough():
    assert fitting_sizes(objects(100, (640, 480)), at("mini")) == Sizes(128, 128, (16, 32, 64, 128, 256))
    assert fitting_sizes(objects(50, (640, 480)), at("mini")) == Sizes(128, 128, (8, 16, 32, 64, 128))
    assert fitting_sizes(objects(20, (640, 480)), at("mini")) == Sizes(256, 256, (8, 16, 32, 64, 128))
    # Never larger than they are on the disk.
    small = fitting_sizes(objects(6, (640, 480)), at("mini"))
    assert small == Sizes(640, 640, (8, 16, 32, 64, 128))


def test_a_trained_detector_keeps_its_anchors_where_larger_images_do():
    anchors = (32, 64, 128, 256, 512)
    assert fitting_sizes(objects(100, (640, 480)), at("photos")) == Sizes(320, 544, anchors)
    assert fitting_sizes(objects(30, (640, 480)), at("photos")) == Sizes(512, 896, anchors)
    tiny = fitting_sizes(objects(10, (640, 480)), at("photos"))
    assert tiny.short_side == 800
    assert tiny.anchors == (16, 32, 64, 128, 256)
