import dataclasses

import pytest

from dynrcnn_ray.config import TrialConfig
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.engine.collectives import Worker
from dynrcnn_ray.engine.speed import SpeedError, measure_speed
from experiments.speed import models, speed_markdown, table_rows


def test_the_four_models_are_timed_side_by_side(smoke: TrialConfig):
    dataset = CocoDataset(smoke.data.root, "val", include_masks=True)
    speeds = measure_speed(models(smoke), dataset, Worker(), rounds=2)
    assert len(speeds) == 8
    for speed in speeds:
        assert 0 < speed.lower <= speed.median <= speed.upper
    rows = table_rows(speeds, smoke, "a machine")
    ratios = {(row["model"], row["phase"]): row["ratio_to_cascade"] for row in rows}
    assert ratios["Dynamic R-CNN", "inference"] > 0
    assert ratios["Cascade R-CNN", "inference"] is None
    assert "Dynamic Mask R-CNN" in speed_markdown(rows, rounds=2)


def test_a_model_that_detects_nothing_is_not_timed(smoke: TrialConfig):
    """Its first convolutions make every activation overflow."""
    dataset = CocoDataset(smoke.data.root, "val", include_masks=True)
    settings = dataclasses.replace(smoke.model, backbone="resnet101", norm="frozen_batch_norm")
    configs = {"deep": dataclasses.replace(smoke, model=settings)}
    with pytest.raises(SpeedError, match="untrained resnet101 with frozen_batch_norm detects nothing"):
        measure_speed(configs, dataset, Worker(), rounds=1)
