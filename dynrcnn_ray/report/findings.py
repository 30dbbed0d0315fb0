"""Claims as data, a paper's and one's own, and a verdict on each from what a store has measured.

A `Claim` is one or more contrasts, each with the range in which the claim says that its difference lies.
A contrast is a weighted sum of numbers of a trial, taken for each seed over rows of one table: AP90 of the row DLA
minus AP90 of the baseline. It is looked at after 3, 5, 8, 12 and 20 seeds that have finished all of its rows, the
lowest first; its 95 % interval and its p-values hold for all looks together (`statistics.looks`), so that seeds may be
added until it is decided. A planned seed that has not finished holds up the looks after it: otherwise a look would take
other seeds once it has, and a verdict could turn.

How a verdict is made:

- **One contrast.** *Confirmed*: the whole interval lies in the claimed range. *Contradicted*: the whole interval lies
  outside. *Undecided*: neither, or fewer seeds than the first look takes, or equal numbers at all of them. *Not
  measured*: no seed has finished all of its rows. This is a test at 2.5 % in each direction; the p-value of a claim is
  twice the smaller one of the two. Between two looks the verdict of the last one holds, and what is decided stays
  decided.
- **"Does not matter", "does not gain", "at least as good"** claim a range with a stated margin: within -m and +m,
  below +m, above -m. That no difference was found confirms none of them; the interval must lie within the margin. For
  -m and +m these are the two one-sided tests of equivalence (TOST), here with the 95 % interval, which is stricter than
  the customary 90 %.
- **Several contrasts** make one claim: "each K_I beats the baseline". It is confirmed if every contrast is: its p-value
  is the largest of theirs and needs no correction (the intersection-union test). It is contradicted if one contrast is
  contradicted beyond what chance gives the best of so many: their smallest p-value times their number (Bonferroni).
- **Holm's correction** over all claims that have a p-value gives a second verdict. Whatever the dependence between
  claims that share trials, the chance that even one of these verdicts mistakes noise for a finding is at most 5 %, at
  all looks together: the p-values only fall from look to look.
- **Speeds** have no seeds but timed rounds. A contrast is then one of logarithms, shown as a ratio; the error of a
  median is 1.25 IQR / (1.35 sqrt(rounds)) (McGill, Tukey and Larsen 1978), and the models' errors are taken as
  independent. Such an interval tells how well these medians are known on this machine, nothing about other machines.
  Speeds are measured once: they have no looks.

All assume that the differences are spread normally over seeds, as the tables' intervals do.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from dynrcnn_ray.report.trial_numbers import NumbersOfRow
from dynrcnn_ray.statistics.estimates import Estimate
from dynrcnn_ray.statistics.looks import SeedsEstimate, estimate_at_looks
from dynrcnn_ray.statistics.power import Outlook, outlook

Verdict = Literal["confirmed", "contradicted", "undecided", "not measured"]
VERDICTS: tuple[Verdict, ...] = ("confirmed", "contradicted", "undecided", "not measured")
RATIO = "ratio"
"""The unit of a contrast of speeds."""
_LEVEL = 0.05
_TAIL = _LEVEL / 2


@dataclass(frozen=True)
class Term:
    """A number of each trial of a row, times a weight.

    Attributes:
        row: the row's place in its experiment.
        measure: what is taken of a trial: a metric, or one of `trial_numbers`.
        weight: its factor in the sum.
        paper: the paper's number, of which a ratio takes the logarithm as well; NaN if it gives none.
    """

    row: int
    measure: str
    weight: float = 1.0
    paper: float = math.nan


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of rows' numbers, and where a claim says that it lies: above < sum < below.

    Attributes:
        text: what is set against what.
        metric: the number's name for people.
        unit: as in the schemas; `RATIO` takes the sum of logarithms, and its range is that of the ratio.
        terms: of one experiment.
        above: the range's lower end; minus infinity for none.
        below: its upper end.
    """

    text: str
    metric: str
    unit: str
    terms: tuple[Term, ...]
    above: float = 0.0
    below: float = math.inf

    @property
    def paper(self) -> float:
        """The paper's own difference; NaN if it gives none."""
        return sum(term.weight * self._scaled(term.paper) for term in self.terms)

    def estimate(self, rows: Mapping[int, NumbersOfRow]) -> Estimate:
        """The difference as a store measured it.

        Args:
            rows: the numbers of the experiment's rows.
        """
        if self.unit == RATIO:
            return self._speed_estimate(rows)
        by_seed = [
            {seed: term.weight * numbers.get(term.measure, math.nan) for seed, numbers in rows[term.row].trials.items()}
            for term in self.terms
        ]
        seeds = sorted(set.intersection(*(set(values) for values in by_seed)))
        sums = {seed: math.fsum(values[seed] for values in by_seed) for seed in seeds}
        planned = (rows[term.row].missing.union(rows[term.row].trials) for term in self.terms)
        waits_for = min(frozenset.intersection(*planned).difference(seeds), default=None)
        return estimate_at_looks({seed: value for seed, value in sums.items() if not math.isnan(value)}, waits_for)

    @property
    def limits(self) -> tuple[float, float]:
        """The claimed range on the scale of the estimate."""
        return (math.log(self.above), math.log(self.below)) if self.unit == RATIO else (self.above, self.below)

    def outlook(self, deviation: float) -> Outlook | None:
        """How likely the looks confirm the claim if the paper's difference is the true one, and after how many seeds.

        None if no spread is known, or the paper gives no difference in the range.

        Args:
            deviation: the standard deviation of the sums over the seeds.
        """
        above, below = self.paper - self.above, self.below - self.paper
        if self.unit == RATIO or not (deviation > 0 and above > 0 and below > 0):
            return None
        return outlook(above / deviation, below / deviation)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.unit == RATIO and value > 0 else value

    def _speed_estimate(self, rows: Mapping[int, NumbersOfRow]) -> Estimate:
        speeds = [(term.weight, rows[term.row].speeds.get(term.measure)) for term in self.terms]
        known = [(weight, speed) for weight, speed in speeds if speed is not None]
        if len(known) < len(speeds):
            return Estimate.unknown()
        error = math.sqrt(math.fsum((weight * speed.relative_error) ** 2 for weight, speed in known))
        mean = math.fsum(weight * math.log(speed.median) for weight, speed in known)
        return Estimate(mean, error, math.inf, min(speed.rounds for _, speed in known), math.nan)


@dataclass(frozen=True)
class Lock:
    """When a claim of one's own was written down.

    Attributes:
        hash: of its line, of the configurations of its rows, and of whether their boxes or their masks are meant.
        locked_at: when, right before the first trial of the command that stated it first.
        is_afterwards: whether it was possible to know by then how it comes out.
        dropped_at: since when a command that has its rows does not state it any more; None: it is stated.
    """

    hash: str
    locked_at: datetime
    is_afterwards: bool
    dropped_at: datetime | None


@dataclass(frozen=True)
class Claim:
    """A claim, of the paper or of one's own.

    Attributes:
        experiment: the command that measures it, whose plan names the trials of each row.
        place: where it is made, and what is shown there.
        words: one sentence without a full stop.
        contrasts: all of them together make the claim.
        line: what makes the contrasts, see `claim_lines`; empty where no line says them.
        lock: of a claim of one's own; None for the paper's.
    """

    experiment: str
    place: str
    words: str
    contrasts: tuple[Contrast, ...]
    line: str = ""
    lock: Lock | None = None


def measures_of(claims: Iterable[Claim]) -> dict[str, set[str]]:
    """What claims want measured of the trials of each experiment that they are about."""
    measures: dict[str, set[str]] = {}
    for claim in claims:
        measured = (term.measure for contrast in claim.contrasts for term in contrast.terms)
        measures.setdefault(claim.experiment, set()).update(measured)
    return measures


@dataclass(frozen=True)
class Measured:
    """A contrast as a store has it.

    Attributes:
        contrast: what was measured.
        estimate: the difference.
        p_for: the one-sided p-value of the claimed range; NaN without an interval.
        p_against: that of the outside.
    """

    contrast: Contrast
    estimate: Estimate
    p_for: float
    p_against: float

    @property
    def p(self) -> float:
        """Two-sided; NaN without an interval."""
        return _capped(2 * min(self.p_for, self.p_against))

    @property
    def verdict(self) -> Verdict:
        """The verdict on this contrast alone."""
        return _verdict(self.p_for, self.p_against, 1.0, self.estimate.n > 0)

    @property
    def next_look(self) -> int | None:
        """After how many seeds it is looked at again; None after the last look, and for speeds."""
        return self.estimate.next_look if isinstance(self.estimate, SeedsEstimate) else None

    @property
    def waits_for(self) -> int | None:
        """The seed that must finish before the next look; None if it is not known which."""
        return self.estimate.waits_for if isinstance(self.estimate, SeedsEstimate) else None


@dataclass(frozen=True)
class Judgement:
    """A claim with its verdicts.

    Attributes:
        claim: what was judged.
        scale: at which the trials ran; empty if there are none.
        parts: its contrasts, in their order.
        p: of the claim, two-sided; NaN if nothing can be tested.
        p_holm: the same after Holm's correction over all claims.
        verdict: of the claim.
        verdict_holm: after the correction.
    """

    claim: Claim
    scale: str
    parts: tuple[Measured, ...]
    p: float
    p_holm: float
    verdict: Verdict
    verdict_holm: Verdict

    @property
    def n(self) -> int:
        """The fewest seeds of a contrast; of speeds the rounds."""
        return min(part.estimate.n for part in self.parts)

    @property
    def is_decided(self) -> bool:
        """Whether the claim is confirmed or contradicted; no further look makes it undecided again."""
        return self.verdict in ("confirmed", "contradicted")

    @property
    def next_look(self) -> int | None:
        """After how many seeds a contrast is looked at again; None after the last look, and for speeds."""
        return min((part.next_look for part in self.parts if part.next_look is not None), default=None)


def judge(findings: Iterable[Claim], numbers: Mapping[str, Mapping[int, NumbersOfRow]]) -> list[Judgement]:
    """The verdict on each claim.

    Args:
        findings: the claims; Holm's correction is over all of them.
        numbers: by experiment and row, from `read_numbers`.
    """
    claims = list(findings)
    measured = [
        tuple(_measure(contrast, numbers[claim.experiment]) for contrast in claim.contrasts) for claim in claims
    ]
    one_sided = [_combine(parts) for parts in measured]
    p_values = [2 * min(chances) for chances in one_sided]
    factors = holm_factors(p_values)
    return [
        Judgement(
            claim=claim,
            scale=next((row.scale for row in numbers[claim.experiment].values() if row.scale), ""),
            parts=parts,
            p=_capped(p),
            p_holm=_capped(p * factor),
            verdict=_verdict(*chances, 1.0, all(part.estimate.n for part in parts)),
            verdict_holm=_verdict(*chances, factor, all(part.estimate.n for part in parts)),
        )
        for claim, parts, chances, p, factor in zip(claims, measured, one_sided, p_values, factors, strict=True)
    ]


def holm_factors(p_values: Sequence[float]) -> list[float]:
    """What each p-value is multiplied by in Holm's step-down correction, so that the products are in their order.

    Args:
        p_values: NaN for what was not tested, which does not count.

    Returns:
        The corrected p-value is the product, and 1 at most. A p-value of zero has the factor of its rank.
    """
    order = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    factors = [1.0] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, p * (len(order) - rank))
        factors[index] = largest / p if p else float(len(order) - rank)
    return factors


def _measure(contrast: Contrast, rows: Mapping[int, NumbersOfRow]) -> Measured:
    estimate = contrast.estimate(rows)
    above, below = contrast.limits
    inside = max(estimate.p_above(above), estimate.p_below(below))
    outside = min(estimate.p_below(above), estimate.p_above(below))
    return Measured(contrast, estimate, inside, outside)


def _combine(parts: Sequence[Measured]) -> tuple[float, float]:
    """The claim's one-sided p-values for and against. A contrast without an interval cannot speak for it."""
    against = [part.p_against for part in parts if not math.isnan(part.p_against)]
    if not against:
        return math.nan, math.nan
    for_claim = max(part.p_for for part in parts) if len(against) == len(parts) else 1.0
    return for_claim, min(1.0, len(parts) * min(against))


def _capped(p: float) -> float:
    return p if math.isnan(p) else min(p, 1.0)


def _verdict(p_for: float, p_against: float, factor: float, is_measured: bool) -> Verdict:
    if min(p_for, p_against) * factor <= _TAIL:
        return "confirmed" if p_for < p_against else "contradicted"
    return "undecided" if is_measured else "not measured"
