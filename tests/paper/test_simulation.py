"""Workers that are simulated: what a run's images measured, dealt out."""

import numpy as np
import pandas as pd
import pytest

from dynrcnn_ray.dynamic import state as dynamic_training
from dynrcnn_ray.paper import simulation
from dynrcnn_ray.paper.simulation import Records, records_of, simulate_spread

SPREADS = ["T_now_range", "T_now_std", "beta_now_range", "beta_now_std"]


def records(ious: np.ndarray, errors: np.ndarray, valid: np.ndarray | None = None) -> Records:
    return Records(ious, errors, np.ones_like(ious, dtype=bool) if valid is None else valid, 0.1, 5.0)


@pytest.fixture
def run() -> Records:
    rng = np.random.default_rng(0)
    return records(rng.uniform(0.4, 0.9, (40, 4)), rng.uniform(0.1, 0.9, (40, 4)), rng.random((40, 4)) > 0.1)


def spread(run: Records, **changes: int) -> dict[str, float]:
    asked = {"num_shards": 4, "images_per_shard": 1, "interval": 4} | changes
    return simulate_spread(run, **asked)  # pyright: ignore[reportArgumentType]


def test_one_worker_has_no_spread(run):
    assert spread(run, num_shards=1) == dict.fromkeys(SPREADS, 0)


def test_two_workers_of_two_images_by_hand():
    """One step of two images: however they are dealt out, one worker has the one and one has the other."""
    found = spread(records(np.array([[0.5, 0.7]]), np.array([[0.2, 0.8]])), num_shards=2, interval=1)
    assert found == pytest.approx({"T_now_range": 0.2, "T_now_std": 0.1, "beta_now_range": 0.6, "beta_now_std": 0.3})


def test_a_value_follows_the_rule_of_algorithm_1():
    """Mean of I_k and its floor, midpoint median of E_k and its ceiling; what is not valid does not count."""
    ious = np.array([[0.5, 0.7, 0.9, 0.3], [0.2, 0.2, 0.1, 0.2], [0.5, 0.5, 0.5, 0.5]])
    errors = np.array([[0.4, 0.2, 9.0, 0.3], [2.0, 3.0, 4.0, 5.0], [0.0, 0.0, 0.0, 0.0]])
    valid = np.array([[True, True, False, True], [True] * 4, [True] * 4])
    run = Records(ious, errors, valid, 0.4, 1.0)

    def of_rows(*places: list[int]) -> tuple[np.ndarray, np.ndarray]:
        return simulation._thresholds(run, slice(0, 3), np.array(places))

    thresholds, betas = of_rows([0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11])
    assert thresholds == pytest.approx([0.5, 0.4, 0.5])
    assert betas == pytest.approx([0.3, 1.0, np.nan], nan_ok=True)
    [threshold], [even] = of_rows([0, 1])
    assert (threshold, even) == pytest.approx((0.6, 0.3))
    assert simulation._SMALLEST_BETA == dynamic_training.SMALLEST_BETA


def test_workers_that_measured_nothing_are_left_out():
    valid = np.array([[True, False]])
    found = spread(records(np.array([[0.5, 0.0]]), np.array([[0.2, 0.0]]), valid), num_shards=2, interval=1)
    assert found == dict.fromkeys(SPREADS, 0)
    nothing = records(np.zeros((1, 2)), np.zeros((1, 2)), np.zeros((1, 2), dtype=bool))
    assert spread(nothing, num_shards=2, interval=1) == dict.fromkeys(SPREADS, 0)


def test_each_image_is_dealt_once_while_there_are_enough(run):
    rng = np.random.default_rng(0)
    assert sorted(simulation._deal(16, 4, 4, rng).ravel()) == list(range(16))
    assert len(np.unique(simulation._deal(16, 3, 4, rng))) == 12
    assert simulation._deal(16, 64, 4, rng).shape == (64, 4)


def test_images_stay_in_their_window_of_training():
    """Two windows, far apart; the images of one are all alike. No worker may see those of both."""
    ious = np.repeat([0.2, 0.8], 4)[:, None] * np.ones((8, 2))
    assert spread(records(ious, ious), num_shards=256, interval=4) == pytest.approx(dict.fromkeys(SPREADS, 0))


def test_more_images_bring_workers_together_and_more_workers_set_the_outermost_apart():
    """The deviation of a mean falls with the root of the images behind it: 4 images a step for 1 halve it."""
    rng = np.random.default_rng(1)
    run = records(rng.uniform(0.3, 0.9, (400, 8)), rng.uniform(0.1, 0.9, (400, 8)))
    one, four = (spread(run, num_shards=256, images_per_shard=images, interval=50) for images in (1, 4))
    assert four["T_now_std"] == pytest.approx(one["T_now_std"] / 2, rel=0.15)
    assert one["T_now_std"] == pytest.approx(0.6 / np.sqrt(12 * 50), rel=0.1)
    longer = spread(run, num_shards=256, interval=200)
    assert longer["beta_now_std"] == pytest.approx(one["beta_now_std"] / 2, rel=0.2)
    ranges = [spread(run, num_shards=2**power, interval=50)["T_now_range"] for power in (1, 3, 5, 7, 9)]
    assert ranges == sorted(ranges)


def test_a_part_of_the_windows_tells_what_all_tell(monkeypatch):
    """What the images measure draws together early in a run: its first windows count no more than any other part."""
    rng, apart = np.random.default_rng(2), np.linspace(1, 0, 400)[:, None] ** 4
    values = 0.5 + apart * rng.uniform(-0.3, 0.3, (400, 64))
    whole = spread(records(values, values), num_shards=64)
    monkeypatch.setattr(simulation, "_IMAGES", 0)
    assert spread(records(values, values), num_shards=64) == pytest.approx(whole, rel=0.1)


def test_a_run_that_is_shorter_than_a_window_tells_nothing(run):
    assert all(np.isnan(value) for value in spread(run, interval=41).values())


def test_the_same_records_give_the_same_numbers(run):
    assert spread(run, num_shards=64) == spread(run, num_shards=64)


def test_the_stores_rows_become_records():
    rows = pd.DataFrame(
        {"step": [2, 1, 1, 2], "image": [1, 0, 1, 0], "iou": [0.4, 0.1, None, 0.3], "error": [4.0, 1.0, None, 3.0]}
    )
    found = records_of(rows, 0.4, 1.0)
    assert found.ious == pytest.approx(np.array([[0.1, np.nan], [0.3, 0.4]]), nan_ok=True)
    assert found.errors == pytest.approx(np.array([[1, np.nan], [3, 4]]), nan_ok=True)
    assert found.valid.tolist() == [[True, False], [True, True]]
    # An image without a row has measured nothing.
    assert records_of(rows.iloc[1:], 0.4, 1.0).valid.tolist() == [[True, False], [True, False]]
