"""Statistics over seeds: the mean, the spread, and the difference to a baseline, paired by seed."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtr, stdtrit

CONFIDENCE = 0.95
"""How often the intervals hold the true difference, if differences are spread normally over seeds."""
TAIL = (1 - CONFIDENCE) / 2
"""How often the true difference lies below an interval, and above it."""
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


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error.

    Attributes:
        mean: NaN if nothing was measured.
        error: its standard error; NaN for fewer than two values.
        freedom: Student's degrees of freedom; infinity for the normal distribution.
        n: how many values.
        deviation: their sample standard deviation; NaN for fewer than two.
    """

    mean: float
    error: float
    freedom: float
    n: int
    deviation: float

    @classmethod
    def unknown(cls) -> "Estimate":
        """Nothing was measured."""
        return cls(math.nan, math.nan, 0, 0, math.nan)

    def interval(self) -> tuple[float, float]:
        """The ends of its interval; NaN if its error is not known."""
        return self.ends(TAIL)

    def ends(self, tail: float) -> tuple[float, float]:
        """The ends of an interval beyond each of which the true mean lies so often; NaN if its error is not known."""
        if math.isnan(self.error) or self.error == 0:
            return self.mean + self.error, self.mean + self.error
        half = self.error * -float(stdtrit(self.freedom, tail))
        return self.mean - half, self.mean + half

    def p_above(self, bound: float) -> float:
        """The one-sided p-value of the claim that the true mean lies above a bound; NaN if the error is not known."""
        if math.isnan(self.error):
            return math.nan
        if self.error == 0:
            # Equal values tell nothing of how far others would spread: there is no test.
            return 1.0
        return float(stdtr(self.freedom, (bound - self.mean) / self.error))

    def p_below(self, bound: float) -> float:
        """The one-sided p-value of the claim that the true mean lies below a bound; NaN if the error is not known."""
        return Estimate(-self.mean, self.error, self.freedom, self.n, self.deviation).p_above(-bound)


def mean_estimate(values: Sequence[float]) -> Estimate:
    """The mean of values with its standard error. Values closer than rounding count as the same."""
    n = len(values)
    if n < 2:
        return Estimate(mean(values), math.nan, 0, n, math.nan)
    deviation = 0.0 if max(values) - min(values) <= _SAME else sample_deviation(values)
    centre = mean(values)
    if deviation == 0 and abs(centre) <= _SAME:
        # What differs by rounding alone would look like a difference without any spread.
        centre = 0.0
    return Estimate(centre, deviation / math.sqrt(n), n - 1, n, deviation)


def mean(values: Iterable[float]) -> float:
    """The mean of the values that are known; NaN if none is."""
    known = [value for value in values if not math.isnan(value)]
    return statistics.fmean(known) if known else math.nan


def sample_deviation(values: Iterable[float]) -> float:
    """The sample standard deviation of the values that are known; NaN for fewer than two."""
    known = [value for value in values if not math.isnan(value)]
    if len(known) < 2:
        return math.nan
    # The standard library's `stdev` counts in fractions: thousands of trials take it seconds.
    centre = statistics.fmean(known)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in known) / (len(known) - 1))


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
    estimate = mean_estimate(differences)
    return Difference(estimate.mean, *estimate.interval(), estimate.deviation, estimate.n)


def holds_zero(low: float, high: float) -> bool:
    """Whether an interval cannot tell its difference from zero. False where there is no interval."""
    return low <= 0 <= high
