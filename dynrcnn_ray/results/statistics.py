"""Statistics over seeds: the mean, the spread, and the difference to a baseline, paired by seed."""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

CONFIDENCE = 0.95
"""How often the intervals hold the true difference, if differences are spread normally over seeds."""
_SAME = 1e-9
"""Percent. Differences closer than this to each other differ by the rounding of floats alone."""


@dataclass(frozen=True)
class Difference:
    """A mean difference to a baseline, in the unit of the values.

    Attributes:
        mean: over the shared seeds; NaN if there is none.
        low: the lower end of the interval; NaN for fewer than two shared seeds.
        high: the upper end.
        deviation: the sample standard deviation of the seeds' differences; NaN for fewer than two shared seeds.
        n: the shared seeds.
    """

    mean: float
    low: float
    high: float
    deviation: float
    n: int


def mean(values: Iterable[float]) -> float:
    """The mean of the values that are known; NaN if none is."""
    known = [value for value in values if not math.isnan(value)]
    return statistics.fmean(known) if known else math.nan


def sample_deviation(values: Iterable[float]) -> float:
    """The sample standard deviation of the values that are known; NaN for fewer than two."""
    known = [value for value in values if not math.isnan(value)]
    return statistics.stdev(known) if len(known) > 1 else math.nan


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference:
    """The mean of `values` minus `baseline` over the seeds that both know, with its interval.

    The interval is that of the paired t-test. Where all differences are the same, the test has no variance to work
    with: its interval is a single point, here and in the textbook's formula.

    Args:
        values: a row's values by seed, in percent; NaN is as good as missing.
        baseline: the baseline's.
    """
    # In the seeds' order, so that the same results give the same digits.
    seeds = [seed for seed in sorted(values) if not math.isnan(values[seed] - baseline.get(seed, math.nan))]
    differences = [values[seed] - baseline[seed] for seed in seeds]
    difference = mean(differences)
    if len(seeds) < 2:
        return Difference(difference, math.nan, math.nan, math.nan, len(seeds))
    if max(differences) - min(differences) <= _SAME:
        # scipy warns here, and its ends of the interval differ by rounding.
        point = 0.0 if abs(difference) <= _SAME else difference
        return Difference(point, point, point, 0.0, len(seeds))

    # Imported late: scipy takes over a second, and most commands need no interval.
    from scipy.stats import ttest_rel

    test = ttest_rel([values[seed] for seed in seeds], [baseline[seed] for seed in seeds])
    interval = test.confidence_interval(CONFIDENCE)
    ends = float(interval.low), float(interval.high)
    return Difference(difference, *ends, sample_deviation(differences), len(seeds))


def holds_zero(low: float, high: float) -> bool:
    """Whether an interval cannot tell its difference from zero. False where there is no interval."""
    return low <= 0 <= high
