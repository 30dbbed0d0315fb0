"""How many seeds a difference needs.

`outlook` goes by the looks behind the verdicts on claims. The others go by the test behind the tables' intervals, the
paired t-test of a number of seeds that was fixed beforehand: two-sided, at 5 %, from the noncentral t distribution.
Power is the chance that the interval lies wholly on the side of zero where the true difference is.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import nctdtr, stdtrit

from dynrcnn_ray.statistics.looks import LOOKS, TAILS, standard_paths

POWER = 0.8
"""The chance that is asked for: four runs of five."""
MOST_SEEDS = 10_000
"""Nobody trains more; a difference that needs more counts as never told from zero."""
_LARGEST_EFFECT = 100.0
_TAIL = 0.025
_PATHS = 20_000
_PATHS_SEED = 0


@dataclass(frozen=True)
class Outlook:
    """What the looks promise for a true difference.

    Attributes:
        chance: that it is told from the ends of a range by the last look.
        seeds: how many it takes on average, if nobody adds seeds after the look that tells it.
    """

    chance: float
    seeds: float


def outlook(above: float, below: float) -> Outlook:
    """How a true difference within a range fares at the looks, by simulation: the chance is known to 0.7 %.

    Args:
        above: how far it lies above the range's lower end, over the standard deviation of the seeds' differences;
            infinity for no end.
        below: how far below its upper end.
    """
    means, margins = _paths()
    is_told = np.logical_or.accumulate(means + above > margins) & np.logical_or.accumulate(means - below < -margins)
    steps = np.diff(LOOKS)[:, None]
    return Outlook(float(is_told[-1].mean()), LOOKS[0] + float((steps * ~is_told[:-1]).sum(axis=0).mean()))


@functools.cache
def _paths() -> tuple[np.ndarray, np.ndarray]:
    """Means about the true one and half widths of the intervals, of looks x paths, in standard deviations."""
    means, deviations = standard_paths(np.random.default_rng(_PATHS_SEED), _PATHS)
    seeds = np.array(LOOKS)
    return means, deviations * (-stdtrit(seeds - 1, np.array(TAILS)) / np.sqrt(seeds))[:, None]


def power(effect: float, seeds: int) -> float:
    """The chance that a true difference is told from zero.

    Args:
        effect: the true difference over the standard deviation of the seeds' differences; 0 or greater.
        seeds: at least two.
    """
    # The quantile of t and the distribution of noncentral t, without `scipy.stats`, which takes 0.7 s to import.
    missed = float(nctdtr(seeds - 1, effect * math.sqrt(seeds), stdtrit(seeds - 1, 1 - _TAIL)))
    # At some noncentralities above 35 scipy has NaN for less than 1e-50: https://github.com/scipy/scipy/issues/25470
    return 1.0 if math.isnan(missed) else 1.0 - missed


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
