"""Looks planned ahead: verdicts over seeds that stay right while seeds are added.

Who adds seeds and tests again at 5 % each time is wrong far more often than in 5 % of the cases: after 3, 5, 8, 12 and
20 seeds in 16.6 %. Here the looks at the differences of a contrast are planned (`LOOKS`), and each has a share of the
error (a group sequential design). A look takes the first n seeds by their numbers, and waits for them: which seeds
count does not depend on what they show, nor on when one looks. Between two looks the last one holds, and after the last
look nothing changes any more.

The t statistics at the looks, each about the true mean, follow one law whatever mean and spread are, if differences are
normal over seeds. So one simulation gives exact bounds:

- **Worst look.** At look k with the share w_k, let p_k be the usual one-sided p-value of the t-test of "the mean is at
  most b". W is the smallest p_k / w_k of the looks so far. G(v) is the chance that W is at most v at any look, where
  the mean is b (`_CHANCES`); a smaller mean makes every p_k larger.
- **p-value.** G(W): the smallest level at which one of the looks so far crosses its bound. At any look and under any
  rule to stop, the chance that it is at most x is at most x, so it may be used as any p-value: the largest of several
  (a claim of several contrasts), a number of them times the smallest (Bonferroni), Holm's correction over claims. It
  only falls with more looks: what is decided stays decided.
- **Interval.** At each look the t interval whose tails are w_k times the v with G(v) = 2.5 %. Each of its ends is on
  the wrong side of the true mean at any look in 2.5 %, so all intervals hold it together with 95 % (repeated confidence
  intervals, Jennison and Turnbull 1989), and so does what they have in common, which is shown. It lies above b if and
  only if the p-value of "at most b" is 2.5 % at most. A margin of equivalence is two such tests, each at 2.5 %.

The shares are as 1 : 3 : 6 : 8 : 10. Two-sided, the levels of the five looks are .0023, .0069, .0137, .0183 and .0229.
Few seeds know their spread so badly that a larger share there gains little: with equal shares an effect of one standard
deviation is found as early, and found less often.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dynrcnn_ray.statistics.estimates import TAIL, Estimate, mean_estimate

LOOKS = (3, 5, 8, 12, 20)
"""After so many seeds."""
SHARES = tuple(part / 28 for part in (1, 3, 6, 8, 10))
"""Of the error, by look."""
_CHANCES = np.array(
    [
        (1e-06, 1e-06),
        (1e-05, 9.28e-06),
        (3e-05, 2.86e-05),
        (0.0001, 9.549e-05),
        (0.0003, 0.0002835),
        (0.001, 0.0009196),
        (0.002, 0.001797),
        (0.004, 0.003496),
        (0.007, 0.005972),
        (0.01, 0.008369),
        (0.015, 0.01226),
        (0.02, 0.01604),
        (0.025, 0.01974),
        (0.03, 0.02337),
        (0.035, 0.02692),
        (0.04, 0.03044),
        (0.05, 0.03733),
        (0.07, 0.05059),
        (0.1, 0.06959),
        (0.15, 0.09941),
        (0.2, 0.1275),
        (0.3, 0.1801),
        (0.4, 0.2288),
        (0.6, 0.3181),
        (0.8, 0.3992),
        (1, 0.4739),
        (1.3, 0.5765),
        (1.6, 0.6701),
        (2, 0.7836),
        (2.4, 0.8885),
        (2.8, 1.0),
    ]
)
"""v and G(v), of 10^8 simulated paths: `python -m benchmarks.look_bounds`. The first line stands for the sum of the
looks' chances, the last one for certainty."""
_LOGARITHMS = np.log(_CHANCES.T)


def standard_paths(generator: np.random.Generator, paths: int) -> tuple[np.ndarray, np.ndarray]:
    """Means and sample standard deviations at the looks, of differences with a true mean of 0 and deviation of 1.

    Args:
        generator: of the random numbers.
        paths: how many.

    Returns:
        Two arrays of looks x paths.
    """
    sums, squares = np.zeros(paths), np.zeros(paths)
    means, deviations = [], []
    for before, seeds in pairwise((0, *LOOKS)):
        added = seeds - before
        new = generator.standard_normal(paths) * np.sqrt(added)
        sums = sums + new
        # The squares of the new seeds: those about their own mean are chi-squared.
        squares = squares + new**2 / added + generator.chisquare(added - 1, paths)
        means.append(sums / seeds)
        deviations.append(np.sqrt((squares - sums**2 / seeds) / (seeds - 1)))
    return np.array(means), np.array(deviations)


def chance_over_looks(worst: float) -> float:
    """G: the chance that the smallest p_k / w_k of all looks is at most so much where there is no effect.

    Below the simulated values it is the sum of the looks' own chances, which it never exceeds.
    """
    if worst < _CHANCES[0, 0]:
        return worst
    return math.exp(np.interp(math.log(worst), *_LOGARITHMS))


_WORST = math.exp(np.interp(math.log(TAIL), *_LOGARITHMS[::-1]))
TAILS = tuple(share * _WORST for share in SHARES)
"""The one-sided level of each look's own t-test, so that all looks together miss in `TAIL`."""


@dataclass(frozen=True)
class SeedsEstimate(Estimate):
    """A mean over seeds as it stands at the last look, for the whole course of looks.

    The numbers of `Estimate` are those of the last look; before the first they are of all seeds there are, and nothing
    can be tested.

    Attributes:
        looks: the means at the looks so far.
        seeds: how many seeds there are, those since the last look included.
        waits_for: the lowest planned seed that has not finished, where higher ones have; None if there is none.
    """

    looks: tuple[Estimate, ...]
    seeds: int
    waits_for: int | None

    @property
    def next_look(self) -> int | None:
        """After how many seeds the next look is; None if all have been."""
        return next(iter(LOOKS[len(self.looks) :]), None)

    def interval(self) -> tuple[float, float]:
        """What the intervals of all looks so far have in common; NaN before the first look.

        In very few cases that is nothing: then the last look's interval. A look at equal differences has none.
        """
        ends = [look.ends(tail) for look, tail in zip(self.looks, TAILS, strict=False) if look.error]
        if not ends:
            return math.nan, math.nan
        low, high = max(low for low, _ in ends), min(high for _, high in ends)
        return (low, high) if low <= high else ends[-1]

    def p_above(self, bound: float) -> float:
        """The one-sided p-value over all looks of the claim that the true mean lies above a bound; NaN before them."""
        return _over_looks([look.p_above(bound) for look in self.looks])

    def p_below(self, bound: float) -> float:
        """The same of the claim that it lies below a bound."""
        return _over_looks([look.p_below(bound) for look in self.looks])


def _over_looks(p_values: Sequence[float]) -> float:
    """The p-value of all looks so far; NaN if there was none."""
    worst = (p / share for p, share in zip(p_values, SHARES, strict=False))
    return chance_over_looks(min(worst)) if p_values else math.nan


def estimate_at_looks(differences: Mapping[int, float], waits_for: int | None = None) -> SeedsEstimate:
    """The mean of differences as it stands at the last look.

    Args:
        differences: by seed.
        waits_for: the lowest seed that is planned and has not finished; no look takes a higher one.
    """
    seeds = sorted(differences)
    in_turn = [differences[seed] for seed in seeds if waits_for is None or seed < waits_for]
    looks = tuple(mean_estimate(in_turn[:look]) for look in LOOKS if look <= len(in_turn))
    last = looks[-1] if looks else mean_estimate([differences[seed] for seed in seeds])
    if len(in_turn) == len(seeds):
        waits_for = None
    return SeedsEstimate(last.mean, last.error, last.freedom, last.n, last.deviation, looks, len(seeds), waits_for)
