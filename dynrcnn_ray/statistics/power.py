"""How many seeds a difference needs: the power of the paired t-test, from the noncentral t distribution.

All by the test behind the tables' intervals: two-sided, at 5 %. Power is the chance that the interval lies wholly on
the side of zero where the true difference is.
"""

import functools
import math

from scipy.optimize import brentq
from scipy.stats import nct, t

POWER = 0.8
"""The chance that is asked for: four runs of five."""
MOST_SEEDS = 10_000
"""Nobody trains more; a difference that needs more counts as never told from zero."""
_LARGEST_EFFECT = 100.0
_TAIL = 0.025


def power(effect: float, seeds: int) -> float:
    """The chance that a true difference is told from zero.

    Args:
        effect: the true difference over the standard deviation of the seeds' differences; 0 or greater.
        seeds: at least two.
    """
    return float(nct.sf(t.ppf(1 - _TAIL, seeds - 1), seeds - 1, effect * math.sqrt(seeds)))


@functools.cache
def detectable_effect(seeds: int) -> float:
    """The smallest true difference that so many seeds tell from zero with `POWER`, in standard deviations."""
    return float(brentq(lambda effect: power(effect, seeds) - POWER, 0.0, _LARGEST_EFFECT))  # pyright: ignore[reportArgumentType]


def seeds_needed(difference: float, deviation: float, chance: float = POWER) -> float:
    """How many seeds tell a true difference from zero.

    Args:
        difference: the true difference; its sign plays no part.
        deviation: the standard deviation of the seeds' differences, in the same unit.
        chance: the power asked for.

    Returns:
        At least 2; infinity for more than `MOST_SEEDS`; NaN if either is not known, and for a difference of zero, which
        no number of seeds tells from zero.
    """
    if math.isnan(difference) or math.isnan(deviation) or difference == 0:
        return math.nan
    if deviation == 0:
        return 2.0
    effect = min(abs(difference) / deviation, _LARGEST_EFFECT)
    if power(effect, MOST_SEEDS) < chance:
        return math.inf
    low, high = 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, middle) >= chance else (middle, high)
    return float(high)
