"""The ratios that are stable enough to guard, with slack: `pytest -m benchmark` on a machine that does nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.evaluation import measure_evaluation
from benchmarks.inference import measure_inference
from benchmarks.reference_loop import measure_reference_loop
from benchmarks.store import measure_store
from benchmarks.training_step import measure_training_step
from benchmarks.workbench import Workbench, build_workbench

pytestmark = pytest.mark.benchmark


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    """The mini trial; ResNet-50 takes too long for a guard."""
    threads = torch.get_num_threads()
    built = build_workbench(tmp_path)
    yield Workbench(built.mini, built.mini, tmp_path)
    torch.set_num_threads(threads)


def lines(rows: Iterator[dict[str, Any]], count: int) -> dict[str, dict[str, Any]]:
    """The first lines of a family by name; no more is measured."""
    return {row["name"]: row for _, row in zip(range(count), rows, strict=False)}


def test_dynamic_training_costs_next_to_nothing(bench: Workbench):
    rows = lines(measure_training_step(bench, 40), 2)
    assert rows["training_step.mini.outside"]["ratio"] <= 0.03
    assert rows["training_step.mini.dynamic"]["ratio"] <= 1.03


def test_training_is_faster_than_the_reference_loop(bench: Workbench):
    rows = lines(measure_reference_loop(bench, 4), 1)
    assert rows["reference_loop.mini"]["ratio"] >= 1.3


def test_inference_is_no_slower_than_torchvisions(bench: Workbench):
    rows = lines(measure_inference(bench, 60), 1)
    assert rows["inference.mini"]["ratio"] >= 0.97


def test_evaluation_is_many_times_faster(bench: Workbench):
    rows = {row["name"]: row for row in measure_evaluation(bench, 1, num_images=1000)}
    assert rows["evaluation.speed"]["ratio"] >= 20
    assert rows["evaluation.difference"]["reached"]
    assert rows["evaluation.hotcoco_difference"]["reached"]


def test_the_store_is_linear(bench: Workbench):
    rows = list(measure_store(bench, 1, many=2000))
    ratios = {row["name"]: row["ratio"] for row in rows if row["name"].endswith(".linear")}
    assert len(ratios) == 3
    assert max(ratios.values()) <= 1.5
