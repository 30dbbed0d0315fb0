"""Each family at a size of seconds: it runs, its lines fit, both sides compute the same. No time is judged."""

import dataclasses
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import gloo, memory
from benchmarks.collective import Network, all_reduce_seconds, buffer_bytes, modelled_seconds
from benchmarks.evaluation import measure_evaluation
from benchmarks.inference import measure_inference
from benchmarks.loader import measure_loader
from benchmarks.memory import growth, measure_memory
from benchmarks.reference_loop import GroupedBatchSampler, measure_reference_loop, stock_detector
from benchmarks.schema import BENCHMARKS
from benchmarks.shards import measure_shards
from benchmarks.step_parts import measure_step_parts
from benchmarks.store import measure_store
from benchmarks.training_step import measure_training_step
from benchmarks.workbench import Workbench, preload, train_split, with_batch, with_shards
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.dynamic.state import DynamicTrainingState
from dynrcnn_ray.models.detector import build_model
from dynrcnn_ray.store import folds
from tests.processes import fork_server, start_processes


@pytest.fixture
def bench(smoke: TrialConfig, tmp_path: Path) -> Workbench:
    """Scale smoke with two images a step and few RoIs in the place of both trials."""
    few = dataclasses.replace(smoke.model, rois_per_image=32, rpn_post_nms=50, detections_per_image=10)
    small = with_batch(with_shards(dataclasses.replace(smoke, model=few), 1, 2), 2)
    return Workbench(small, small, tmp_path)


@pytest.fixture(autouse=True)
def _quick_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of a family are such all the same, but need not import PyTorch first."""
    monkeypatch.setattr(gloo, "spawn", start_processes)
    monkeypatch.setattr(memory, "multiprocessing", SimpleNamespace(get_context=lambda _: fork_server()))


@pytest.mark.slow
@pytest.mark.parametrize(
    "measure",
    [
        measure_training_step,
        measure_step_parts,
        measure_shards,
        measure_reference_loop,
        measure_loader,
        measure_inference,
    ],
)
def test_a_family_yields_lines_of_the_schema(bench: Workbench, measure):
    rows = list(measure(bench, 1))
    compared = [row for row in rows if "compared_with" in row]
    assert compared
    for row in rows:
        assert set(row) <= set(BENCHMARKS.names)
        assert row in compared or row["name"].startswith("shards.memory.")
    for row in compared:
        assert row["ratio"] > 0
        assert row["median_a"] > 0
    names = [row["name"] for row in rows]
    assert len(set(names)) == len(names)


def test_the_stock_detector_takes_our_weights_and_detects_the_same(smoke: TrialConfig):
    smoke = dataclasses.replace(smoke, model=dataclasses.replace(smoke.model, score_threshold=0.0))
    ours = build_model(smoke, 6, DynamicTrainingState(smoke)).eval()
    stock = stock_detector(smoke, 6).eval()
    for part in (stock.roi_heads, stock.roi_heads.box_roi_pool, stock.rpn.head):
        assert type(part).__module__.startswith("torchvision")
    stock.load_state_dict(ours.state_dict(), strict=True)
    # RoIs are pooled by other sums: in float64 no rounding chooses another box.
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (a,), (b,) = ours.double()([image]), stock.double()([image])
    assert len(a["scores"])
    for name, value in b.items():
        torch.testing.assert_close(a[name], value)


def test_batches_of_the_reference_hold_one_aspect_ratio():
    ratios = [0.5, 2.0] * 10
    batches = list(GroupedBatchSampler(ratios, 4))
    assert len(batches) == 4
    assert all(len({ratios[index] for index in batch}) == 1 for batch in batches)
    assert len({index for batch in batches for index in batch}) == 16


@pytest.mark.slow
def test_evaluation_compares_equal_numbers(bench: Workbench):
    speed, difference, *against_hotcoco, difference_to_hotcoco = measure_evaluation(bench, 1, num_images=20)
    for line in speed, *against_hotcoco:
        assert line["ratio"] > 0
    for line in difference, difference_to_hotcoco:
        assert line["median_a"] <= 1e-9
        assert line["reached"] is True


def test_hotcoco_is_left_out_where_it_is_not_installed(bench: Workbench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    names = [row["name"] for row in measure_evaluation(bench, 1, num_images=4)]
    assert names == ["evaluation.speed", "evaluation.difference"]


@pytest.mark.slow
def test_memory_is_watched_in_a_process_of_its_own(bench: Workbench):
    (row,) = measure_memory(bench, 1, steps=40)
    assert "of the memory" in row["unit"]
    assert abs(row["median_a"]) < 1


def test_growth_is_the_slope_after_warm_up():
    assert growth([1.0, 50.0, *[100.0] * 6]) == pytest.approx(0.0, abs=1e-12)
    leaking = [0.0, 0.0, *np.linspace(100, 110, 6)]
    assert growth(leaking) == pytest.approx(10 / 105)


@pytest.mark.slow
def test_a_store_is_filled_and_drawn(bench: Workbench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folds, "SETTLED_SECONDS", 0)
    rows = list(measure_store(bench, 1, many=40))
    names = [row["name"] for row in rows]
    assert names[:3] == ["store.write", "store.fold", "store.listing"]
    assert names[-4:] == [f"store.s3_{name}" for name in ("fold", "listing", "table", "report")]
    assert (bench.scratch / "store_40" / "tables" / "table3.md").is_file()
    assert len(list((bench.scratch / "store_4" / "trials").iterdir())) == 4


def test_the_buffer_is_the_one_that_training_reduces(smoke: TrialConfig):
    state = DynamicTrainingState(smoke)
    reduced = []
    for _ in range(smoke.dynamic.update_interval):
        state.end_step(lambda tensor: reduced.append(tensor.numel() * tensor.element_size()))
    assert reduced == [buffer_bytes(smoke.dynamic.update_interval, smoke.train.global_batch)]


def test_the_model_of_the_all_reduce():
    network = Network(latency=1e-3, bandwidth=1e6)
    assert modelled_seconds(1000, 1, network) == 0
    # Two workers: a message there and one back, and half of the bytes twice.
    assert modelled_seconds(1000, 2, network) == pytest.approx(2 * 1e-3 + 1000 / 1e6)
    assert modelled_seconds(0, 1024, network) == pytest.approx(20 * 1e-3)
    assert modelled_seconds(1_000_000, 8, network) == pytest.approx(6e-3 + 2 * 7 / 8)


@pytest.mark.slow
def test_two_processes_time_their_all_reduce(smoke: TrialConfig, tmp_path: Path):
    seconds = all_reduce_seconds(smoke, 2, 3, tmp_path)
    assert seconds.shape == (3,)
    assert (seconds > 0).all()


def test_preloaded_batches_are_those_of_the_training(smoke: TrialConfig):
    dataset = train_split(smoke)
    first, second = preload(smoke, dataset, 2)
    assert len(first[0]) == len(first[1]) == smoke.train.global_batch
    assert [target["image_index"] for target in first[1]] != [target["image_index"] for target in second[1]]
    again = preload(smoke, dataset, 1)[0]
    assert all(torch.equal(a, b) for a, b in zip(first[0], again[0], strict=True))
