from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dynrcnn_ray.evaluation import matching
from dynrcnn_ray.evaluation.coco_ap import Detections, evaluate_against, evaluate_detections
from dynrcnn_ray.evaluation.ground_truth import read_ground_truth
from dynrcnn_ray.store.schemas import METRICS
from tests.evaluation.ap_oracle import by_pycocotools, random_detections, random_split, write


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(4))
def test_equal_to_pycocotools(tmp_path: Path, seed: int, kind):
    rng = np.random.default_rng(seed)
    content = random_split(rng, 25)
    entries = random_detections(content, rng)
    expected = by_pycocotools(content, entries, kind)
    metrics = evaluate_detections(write(tmp_path, content), entries, kind=kind)
    assert set(metrics) == set(METRICS)
    assert metrics == pytest.approx(expected, abs=1e-9)
    assert all(value is not None and 0 < value < 100 for value in metrics.values())


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_more_than_a_hundred_detections_of_a_category(tmp_path: Path, kind):
    rng = np.random.default_rng(0)
    content = random_split(rng, 4)
    entries = random_detections(content, rng, copies=90)
    assert max(len(entry.scores) for entry in entries) > 400
    metrics = evaluate_detections(write(tmp_path, content), entries, kind=kind)
    assert metrics == pytest.approx(by_pycocotools(content, entries, kind), abs=1e-9)


def test_bounded_memory_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(5)
    content = random_split(rng, 10)
    entries = random_detections(content, rng)
    file = write(tmp_path, content)
    at_once = evaluate_detections(file, entries)
    monkeypatch.setattr(matching, "_PAIRS_AT_ONCE", 3)
    assert evaluate_detections(file, entries) == at_once


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("threads", [2, 3, 8])
def test_threads_change_nothing(tmp_path: Path, kind, threads: int):
    """More of them than categories, with detections of a category that the split has not."""
    content = random_split(np.random.default_rng(6), 10)
    entries = [
        entry._replace(category_ids=np.where(entry.scores < 0.2, 3, entry.category_ids))
        for entry in random_detections(content, np.random.default_rng(6))
    ]
    truth = read_ground_truth(write(tmp_path, content))
    one = evaluate_against(truth, entries, kind=kind)
    assert one["AP"]
    assert evaluate_against(truth, entries, kind=kind, threads=threads) == one
    none = no_detections(content)
    assert evaluate_against(truth, none, kind=kind, threads=threads) == evaluate_against(truth, none, kind=kind)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("odd", [lambda number: number - 1, lambda number: 7, str, lambda number: None])
def test_annotation_ids_change_nothing(tmp_path: Path, kind, odd: Callable[[int], object]):
    """From 0, as in half of the public files, where pycocotools takes a match for none; all the same; text; null."""
    rng = np.random.default_rng(3)
    content = random_split(rng, 6)
    entries = random_detections(content, rng)
    expected = by_pycocotools(content, entries, kind)
    for annotation in content["annotations"]:
        annotation["id"] = odd(annotation["id"])
    assert evaluate_detections(write(tmp_path, content), entries, kind=kind) == pytest.approx(expected, abs=1e-9)


def test_area_and_crowd_may_be_missing(tmp_path: Path):
    rng = np.random.default_rng(4)
    content = random_split(rng, 6)
    for annotation in content["annotations"]:
        annotation |= {"iscrowd": 0, "area": annotation["bbox"][2] * annotation["bbox"][3]}
    entries = random_detections(content, rng)
    complete = evaluate_detections(write(tmp_path, content), entries)
    for annotation in content["annotations"]:
        del annotation["iscrowd"], annotation["area"]
    assert evaluate_detections(write(tmp_path, content), entries) == complete


def no_detections(content: dict) -> list[Detections]:
    empty = np.empty(0)
    return [Detections(image["id"], np.empty((0, 4)), empty, empty.astype(int), []) for image in content["images"]]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_no_detections_at_all_score_zero(tmp_path: Path, kind):
    content = random_split(np.random.default_rng(0), 6)
    assert evaluate_detections(write(tmp_path, content), no_detections(content), kind=kind)["AP"] == 0


def test_no_ground_truth_at_all_has_no_metric(tmp_path: Path):
    rng = np.random.default_rng(0)
    content = random_split(rng, 6)
    entries = random_detections(content, rng)
    file = write(tmp_path, content | {"annotations": []})
    assert set(evaluate_detections(file, entries).values()) == {None}
    assert set(evaluate_detections(file, no_detections(content)).values()) == {None}


def test_each_image_counts_once(tmp_path: Path):
    rng = np.random.default_rng(1)
    content = random_split(rng, 5)
    file = write(tmp_path, content)
    entries = random_detections(content, rng)
    with pytest.raises(ValueError, match="each of the split's 5 images once"):
        evaluate_detections(file, entries[:-1])
    with pytest.raises(ValueError, match="6 entries for 5 images"):
        evaluate_detections(file, [*entries, entries[0]])
