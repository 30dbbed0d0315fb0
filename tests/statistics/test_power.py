import math
import warnings

import numpy as np
import pytest

from dynrcnn_ray.statistics.power import MOST_SEEDS, POWER, detectable_effect, power, seeds_needed

# Student's t at 0.975 by degrees of freedom, from a printed table.
STUDENTS_T = {2: 4.30265, 4: 2.77645, 9: 2.26216}


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(("seeds", "effect"), [(3, 1.0), (3, 3.0), (5, 1.5), (10, 0.0), (10, 0.8)])
def test_power_is_how_often_the_interval_lies_above_zero(seeds, effect):
    rng = np.random.default_rng(seeds)
    differences = rng.normal(effect, 1, (100_000, seeds))

    half = STUDENTS_T[seeds - 1] * differences.std(axis=1, ddof=1) / math.sqrt(seeds)
    told = (differences.mean(axis=1) - half > 0).mean()

    assert power(effect, seeds) == pytest.approx(told, abs=0.006)


# Cohen's small, medium, large effect, and one standard deviation: the tables of every book on power.
@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_are_the_textbooks(effect, seeds):
    assert seeds_needed(effect, 1.0) == seeds_needed(-3 * effect, 3.0) == seeds


def test_the_smallest_difference_of_so_many_seeds_needs_so_many():
    for seeds in (2, 3, 5, 10, 40):
        effect = detectable_effect(seeds)
        assert power(effect, seeds) == pytest.approx(POWER)
        assert seeds_needed(1.001 * effect, 1.0) == seeds
        assert seeds_needed(0.999 * effect, 1.0) == seeds + 1


@pytest.mark.parametrize("seeds", [2, 3, 5, 8, 12, 20, 50, 159, 1253, MOST_SEEDS])
def test_a_larger_difference_is_never_told_less_often(seeds):
    """scipy's distribution has holes where the noncentrality is large."""
    told = np.array([power(noncentrality / math.sqrt(seeds), seeds) for noncentrality in np.linspace(0, 80, 4001)])

    assert (np.diff(told) >= -1e-12).all()
    assert told[-1] > 0.99


def test_a_larger_difference_never_needs_more_seeds():
    needed = np.array([seeds_needed(effect, 1.0) for effect in np.geomspace(0.04, 30, 2000)])

    assert np.isfinite(needed).all()
    assert (np.diff(needed) <= 0).all()


def test_a_higher_power_needs_more_seeds():
    assert seeds_needed(1.0, 1.0, chance=0.9) == 13


def test_what_no_number_of_seeds_decides():
    assert seeds_needed(1e-3, 1.0) == math.inf
    assert seeds_needed(3.0 / math.sqrt(MOST_SEEDS), 1.0) < math.inf
    assert all(math.isnan(seeds_needed(*pair)) for pair in ((0.0, 1.0), (math.nan, 1.0), (1.0, math.nan)))


@pytest.mark.parametrize("deviation", [0.0, 1e-12, 1e-3])
def test_hardly_any_spread_needs_the_two_seeds_that_a_spread_takes(deviation):
    assert seeds_needed(5.5, deviation) == 2
