import math
import warnings

import numpy as np
import pytest

from dynrcnn_ray.statistics.estimates import Difference, holds_zero, mean, paired_difference, sample_deviation

# Student's t at 0.975 by degrees of freedom, from a printed table.
STUDENTS_T = {1: 12.7062, 2: 4.30265, 3: 3.18245, 4: 2.77645, 9: 2.26216}


def by_seed(values):
    return dict(enumerate(values))


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("seeds", [2, 3, 4, 5, 10])
def test_the_interval_is_the_textbooks(seeds):
    rng = np.random.default_rng(seeds)
    for _ in range(20):
        baseline = rng.normal(50, 3, seeds)
        row = baseline + rng.normal(1, 1, seeds)

        difference = paired_difference(by_seed(row.tolist()), by_seed(baseline.tolist()))

        differences = row - baseline
        centre = sum(differences) / seeds
        variance = sum((differences - centre) ** 2) / (seeds - 1)
        half = STUDENTS_T[seeds - 1] * math.sqrt(variance / seeds)
        assert difference.mean == pytest.approx(centre)
        assert difference.low == pytest.approx(centre - half, rel=1e-4, abs=1e-4)
        assert difference.high == pytest.approx(centre + half, rel=1e-4, abs=1e-4)
        assert difference.deviation == pytest.approx(math.sqrt(variance))


def test_pairing_takes_out_what_seeds_share():
    baseline = {0: 40.0, 1: 50.0, 2: 60.0}
    row = {0: 41.0, 1: 51.1, 2: 60.9}

    assert paired_difference(row, baseline).low > 0.7


def test_only_seeds_that_both_know_count():
    row = {3: 53.0, 0: 51.0, 1: math.nan, 2: 90.0, 7: 12.0}
    baseline = {0: 50.0, 1: 50.0, 2: math.nan, 3: 50.0, 8: 1.0}

    difference = paired_difference(row, baseline)

    half = STUDENTS_T[1] * math.sqrt(2) / math.sqrt(2)
    assert difference.mean == 2.0
    assert (difference.low, difference.high) == pytest.approx((2 - half, 2 + half), rel=1e-4)


def test_one_shared_seed_has_a_difference_and_no_interval():
    difference = paired_difference({0: 51.0, 1: 7.0}, {0: 50.0})

    assert difference.mean == 1.0
    assert all(math.isnan(value) for value in (difference.low, difference.high, difference.deviation))


def test_no_shared_seed_has_nothing():
    difference = paired_difference({0: 51.0}, {1: 50.0})

    assert all(math.isnan(value) for value in (difference.mean, difference.low, difference.high))


@pytest.mark.parametrize("value", [0.0, 41.7, 1e-7])
def test_equal_values_for_all_seeds_cannot_be_told_apart(value):
    difference = paired_difference(by_seed([value] * 3), by_seed([value] * 3))

    assert difference == Difference(0.0, 0.0, 0.0, 0.0, 3)
    assert holds_zero(difference.low, difference.high)


def test_equal_values_up_to_rounding_cannot_be_told_apart():
    # 0.1 + 0.2 is not 0.3.
    difference = paired_difference(by_seed([0.1 + 0.2] * 2), by_seed([0.3] * 2))

    assert difference == Difference(0.0, 0.0, 0.0, 0.0, 2)


def test_one_difference_for_all_seeds_gives_a_point():
    # 50.3 - 50.2 and 0.3 - 0.2 differ by rounding.
    difference = paired_difference({0: 50.3, 1: 0.3}, {0: 50.2, 1: 0.2})

    assert difference.low == difference.mean == difference.high == pytest.approx(0.1)
    assert not holds_zero(difference.low, difference.high)


def test_a_variance_close_to_none_gives_a_narrow_interval_and_no_warning():
    difference = paired_difference({0: 100.0, 1: 100.0 + 1e-8}, {0: 0.0, 1: 0.0})

    assert difference.low < difference.mean < difference.high
    assert difference.high - difference.low == pytest.approx(STUDENTS_T[1] * 1e-8, rel=1e-3)


def test_the_order_of_seeds_does_not_change_a_digit():
    rng = np.random.default_rng(0)
    for _ in range(50):
        row, baseline = (dict(enumerate(rng.normal(50, 2, 6).tolist())) for _ in range(2))
        order = rng.permutation(6).tolist()
        shuffled = {seed: row[seed] for seed in order}

        assert paired_difference(shuffled, baseline) == paired_difference(row, baseline)


def test_swapping_row_and_baseline_mirrors_the_interval():
    row, baseline = {0: 51.0, 1: 53.5, 2: 50.0}, {0: 50.0, 1: 50.5, 2: 51.0}

    there, back = paired_difference(row, baseline), paired_difference(baseline, row)

    assert (back.mean, back.low, back.high) == pytest.approx((-there.mean, -there.high, -there.low))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-1.0, 1.0, True), (0.0, 0.0, True), (0.0, 2.0, True), (0.01, 2.0, False), (-2.0, -0.1, False)],
)
def test_holds_zero(low, high, expected):
    assert holds_zero(low, high) is expected
    assert not holds_zero(math.nan, math.nan)


def test_mean_and_deviation_leave_out_what_is_not_known():
    assert mean([1.0, math.nan, 4.0]) == 2.5
    assert sample_deviation([1.0, math.nan, 4.0]) == pytest.approx(math.sqrt(4.5))
    assert math.isnan(mean([math.nan]))
    assert math.isnan(sample_deviation([1.0, math.nan]))
