import dataclasses

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.paper.speed import SpeedError, measure_speed
from dynrcnn_ray.paper.speed_table import speed_markdown, speed_parquet
from dynrcnn_ray.paper.table7 import NAMES
from dynrcnn_ray.paper.table7_body import models, table_rows
from dynrcnn_ray.training.collectives import Worker


@pytest.mark.slow
def test_the_four_models_are_timed_side_by_side(smoke: TrialConfig):
    dataset = CocoDataset(smoke.data.root, "val", include_masks=True)
    speeds = measure_speed(models(smoke), dataset, Worker(), rounds=2)
    assert len(speeds) == 8
    for speed in speeds:
        assert 0 < speed.lower <= speed.median <= speed.upper
    rows = table_rows(speeds, 0, smoke, 2, "a machine")
    assert [row["model"] for row in rows] == list(NAMES)
    assert rows[1]["inference_images_per_second_paper"] == 11.2
    by_phase = {(speed.model, speed.phase): speed.median for speed in speeds}
    assert rows[3]["training_images_per_second"] == by_phase["Cascade Mask R-CNN", "training"]
    text = speed_markdown(rows)
    ratio = by_phase["Dynamic R-CNN", "inference"] / by_phase["Cascade R-CNN", "inference"]
    assert f"{ratio:.2f}" in text
    assert "1.24" in text
    assert pq.read_table(pa.BufferReader(speed_parquet(rows))).num_rows == 4


@pytest.mark.slow
def test_a_model_that_detects_nothing_is_not_timed(smoke: TrialConfig):
    """Its first convolutions make every activation overflow."""
    dataset = CocoDataset(smoke.data.root, "val", include_masks=True)
    settings = dataclasses.replace(smoke.model, backbone="resnet101", norm="frozen_batch_norm")
    configs = {"deep": dataclasses.replace(smoke, model=settings)}
    with pytest.raises(SpeedError, match="untrained resnet101 with frozen_batch_norm detects nothing"):
        measure_speed(configs, dataset, Worker(), rounds=1)
