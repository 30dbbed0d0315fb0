from pathlib import Path

import numpy as np
import pytest

from dynrcnn_ray.evaluation.average_precision import average_precision
from dynrcnn_ray.evaluation.coco_ap import Detections, percent
from dynrcnn_ray.evaluation.ground_truth import read_ground_truth
from dynrcnn_ray.evaluation.matching import SIZES, DetectionArrays, Matches, match
from dynrcnn_ray.tools.compare.bootstrap import bootstrap_differences
from tests.evaluation.ap_oracle import by_pycocotools, random_detections, random_split, write


def matches_of(folder: Path, content: dict, entries: list[Detections]) -> Matches:
    arrays = DetectionArrays(
        np.repeat([entry.image_id for entry in entries], [len(entry.scores) for entry in entries]),
        np.concatenate([entry.category_ids for entry in entries]),
        np.concatenate([entry.scores for entry in entries]),
        np.concatenate([entry.boxes for entry in entries]),
    )
    return match(read_ground_truth(write(folder, content)), arrays)


def duplicated(content: dict, entries: list[Detections], counts: np.ndarray) -> tuple[dict, list[Detections]]:
    """The split in which the i-th image (by id) is there `counts[i]` times."""
    ids = sorted(image["id"] for image in content["images"])
    images, annotations, copies = [], [], []
    for image_id, count in zip(ids, counts.tolist(), strict=True):
        for copy in range(count):
            new_id = image_id * 100 + copy
            images.append({"id": new_id, "width": 220, "height": 220})
            own = [a for a in content["annotations"] if a["image_id"] == image_id]
            annotations += [{**a, "image_id": new_id, "id": len(annotations) + n} for n, a in enumerate(own, 1)]
            copies += [entry._replace(image_id=new_id) for entry in entries if entry.image_id == image_id]
    return {**content, "images": images, "annotations": annotations}, copies


@pytest.mark.parametrize("seed", range(3))
def test_whole_weights_are_images_that_are_there_several_times(tmp_path: Path, seed: int):
    rng = np.random.default_rng(seed)
    content = random_split(rng, 12)
    # Distinct scores: equal ones of one image would interleave differently in copies.
    entries = random_detections(content, rng, score_steps=10**6)
    counts = rng.multinomial(12, np.full(12, 1 / 12), size=2)
    assert counts.max() > 1
    assert counts.min() == 0
    matches = matches_of(tmp_path, content, entries)
    for sample, count in enumerate(counts):
        expected = by_pycocotools(*duplicated(content, entries, count))
        for size, name in zip(SIZES, ("AP", "AP_S", "AP_M", "AP_L"), strict=True):
            precision = average_precision(matches, size=size, weights=counts.astype(float))
            assert percent(precision[..., sample]) == pytest.approx(expected[name], abs=1e-9)


def test_weights_of_one_and_of_any_other_equal_value_are_plain(tmp_path: Path):
    rng = np.random.default_rng(0)
    content = random_split(rng, 12)
    entries = random_detections(content, rng)
    matches = matches_of(tmp_path, content, entries)
    plain = average_precision(matches)
    assert percent(plain) == pytest.approx(by_pycocotools(content, entries)["AP"], abs=1e-9)
    for weight in (1.0, 2.0, 0.5):
        weighted = average_precision(matches, weights=np.full((1, 12), weight))
        np.testing.assert_allclose(weighted, plain, atol=1e-12, rtol=0)


def test_a_run_against_itself_differs_by_exactly_nothing(tmp_path: Path):
    rng = np.random.default_rng(0)
    content = random_split(rng, 12)
    matches = matches_of(tmp_path, content, random_detections(content, rng))
    for difference in bootstrap_differences(matches, matches, ("AP", "AP75"), samples=70, seed=0):
        assert difference[3:] == (0, 0, 0)
        assert not difference.differs_from_zero


@pytest.mark.slow
def test_the_interval_is_that_of_resampled_splits(tmp_path: Path):
    rng = np.random.default_rng(1)
    content = random_split(rng, 10)
    runs = [random_detections(content, rng, score_steps=10**6) for _ in range(2)]
    first, second = (matches_of(tmp_path, content, run) for run in runs)
    done: list[int] = []
    (ap,) = bootstrap_differences(first, second, ("AP",), samples=60, seed=7, on_progress=done.append)
    assert done[-1] == 60

    draws = np.random.default_rng(7).multinomial(10, np.full(10, 0.1), size=60)
    expected = []
    for draw in draws:
        one, other = (by_pycocotools(*duplicated(content, run, draw))["AP"] for run in runs)
        assert one is not None
        assert other is not None
        expected.append(other - one)
    assert (ap.low, ap.high) == pytest.approx(np.percentile(expected, (2.5, 97.5)).tolist(), abs=1e-9)
    assert ap.first == pytest.approx(by_pycocotools(content, runs[0])["AP"], abs=1e-9)
    assert ap.difference == pytest.approx(ap.second - ap.first)


def test_a_run_without_detections_is_distinctly_worse(tmp_path: Path):
    rng = np.random.default_rng(2)
    content = random_split(rng, 20)
    good = matches_of(tmp_path, content, random_detections(content, rng))
    nothing = [
        Detections(image["id"], np.empty((0, 4)), np.empty(0), np.empty(0, dtype=int)) for image in content["images"]
    ]
    (ap,) = bootstrap_differences(good, matches_of(tmp_path, content, nothing), ("AP",), samples=50, seed=0)
    assert ap.second == 0
    assert ap.high < 0
    assert ap.differs_from_zero


def test_without_objects_there_is_nothing_to_compare(tmp_path: Path):
    rng = np.random.default_rng(2)
    content = random_split(rng, 3)
    entries = random_detections(content, rng)
    matches = matches_of(tmp_path, content | {"annotations": []}, entries)
    (ap,) = bootstrap_differences(matches, matches, ("AP",), samples=5, seed=0)
    assert np.isnan(ap[1:]).all()
    assert not ap.differs_from_zero
