"""The planned looks: their bounds simulated anew, and what they promise for one contrast under any rule to stop."""

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.look_bounds import chances
from dynrcnn_ray.statistics.estimates import TAIL
from dynrcnn_ray.statistics.looks import (
    LOOKS,
    SHARES,
    TAILS,
    SeedsEstimate,
    chance_over_looks,
    estimate_at_looks,
    standard_paths,
)
from dynrcnn_ray.statistics.power import outlook


def test_the_table_is_what_a_simulation_gives():
    # The table's own points and some between them.
    points = [1e-4, 6e-4, 0.001, 0.0055, 0.01, 0.0275, 0.0323, 0.05, 0.12, 0.35, 0.7, 1.0, 1.8]
    paths = 400_000

    found = chances(points, paths, seed=1)

    for point, chance in zip(points, found, strict=True):
        expected = chance_over_looks(point)
        assert abs(chance - expected) < 4.5 * math.sqrt(expected * (1 - expected) / paths), point


def test_the_paths_are_those_of_seeds_one_by_one():
    generator = np.random.default_rng(2)
    samples = generator.standard_normal((40_000, LOOKS[-1]))
    means = np.array([samples[:, :seeds].mean(axis=1) for seeds in LOOKS])
    deviations = np.array([samples[:, :seeds].std(axis=1, ddof=1) for seeds in LOOKS])

    found = standard_paths(generator, 40_000)

    for one, other in zip(found, (means, deviations), strict=True):
        assert np.allclose(one.mean(axis=1), other.mean(axis=1), atol=0.02)
        assert np.allclose(np.cov(one), np.cov(other), atol=0.02)


def test_all_looks_together_miss_in_5_percent():
    assert sum(SHARES) == pytest.approx(1)
    assert chance_over_looks(TAILS[0] / SHARES[0]) == pytest.approx(TAIL)
    # The sum of the looks' own chances is what they would miss if they shared nothing.
    assert TAIL < sum(TAILS) < 1.4 * TAIL


def test_the_chance_rises_and_is_never_more_than_the_sum_of_the_looks():
    points = np.geomspace(1e-9, 28, 500)

    found = [chance_over_looks(point) for point in points]

    assert all(np.diff(found) >= 0)
    assert all(chance <= point for chance, point in zip(found, points, strict=True))
    assert (chance_over_looks(0.0), chance_over_looks(28)) == (0.0, 1.0)


def at_looks(differences: list[float]) -> SeedsEstimate:
    return estimate_at_looks(dict(enumerate(differences)))


def test_the_interval_and_the_p_value_say_the_same():
    generator = np.random.default_rng(3)
    for seeds in (3, 4, 5, 8, 12, 20, 25):
        estimate = at_looks(generator.normal(1.0, 1.0, seeds).tolist())

        low, high = estimate.interval()

        assert estimate.p_above(low) == pytest.approx(TAIL, rel=1e-6)
        assert estimate.p_below(high) == pytest.approx(TAIL, rel=1e-6)


def test_looks_that_leave_nothing_in_common_show_the_last_one():
    sample = [1.0, 1.001, 0.999, 5.0, 5.1, 5.0, 4.9, 5.0, *[5.0, 5.1] * 6]

    low, high = at_looks(sample).interval()

    interval = stats.ttest_1samp(sample, 0).confidence_interval(1 - 2 * TAILS[-1])
    assert (low, high) == pytest.approx((interval.low, interval.high))


def test_next_looks():
    found = [at_looks([1.0] * seeds).next_look for seeds in (0, 2, 3, 4, 5, 19, 20, 21)]
    assert found == [3, 3, 5, 5, 8, 20, None, None]


def test_a_look_at_equal_differences_decides_nothing_and_is_no_interval():
    """They tell nothing of how far others spread; a later look that sees a spread is as if they had not been there."""
    equal = at_looks([0.0] * 3)
    assert all(math.isnan(end) for end in equal.interval())
    assert (equal.p_above(-1.0), equal.p_below(1.0)) == (1.0, 1.0)

    later = at_looks([0.0, 0.0, 0.0, 4.0, 5.0])
    low, high = later.interval()
    assert low < 0 < high
    assert later.p_above(low) == pytest.approx(TAIL, rel=1e-6)


def test_an_outlook_is_what_a_simulation_seed_by_seed_gives():
    generator = np.random.default_rng(4)
    chance, total, runs = 0, 0, 2_000
    for sample in generator.normal(1.0, 1.0, (runs, LOOKS[-1])).tolist():
        told = [seeds for seeds in LOOKS if at_looks(sample[:seeds]).p_above(0.0) <= TAIL]
        chance += bool(told)
        total += min(told, default=LOOKS[-1])

    promised = outlook(1.0, math.inf)

    assert promised.chance == pytest.approx(chance / runs, abs=0.015)
    assert promised.seeds == pytest.approx(total / runs, abs=0.4)


def test_without_an_effect_the_chance_is_that_of_one_side():
    assert outlook(0.0, math.inf).chance == pytest.approx(TAIL, abs=0.005)
