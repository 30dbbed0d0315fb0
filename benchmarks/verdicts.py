"""How often the verdicts on claims are wrong while seeds are added, and how many seeds they take.

Whole sets of claims are simulated and judged by `report.findings.judge`, look by look.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from benchmarks.schema import Row, at_most, stated_row
from benchmarks.workbench import Workbench
from dynrcnn_ray.report.findings import Claim, Contrast, Judgement, Term, judge
from dynrcnn_ray.report.trial_numbers import NumbersOfRow
from dynrcnn_ray.statistics.estimates import TAIL
from dynrcnn_ray.statistics.looks import LOOKS, SeedsEstimate
from dynrcnn_ray.statistics.power import seeds_needed

SEED = 31
_EXPERIMENT = "simulated"
_EFFECTS = (0.0, 0.0, 0.0, 3.0, 3.0, 1.0, 0.5, 1.5, 2.0)
"""The true differences of rows 1, 2, ... to row 0, in standard deviations of the seeds' differences."""
_MORE = 3
"""So many times as many sets for the claims of one contrast, which come nearest to 5 %."""
_BETWEEN = 20
"""One set in so many is judged at every number of seeds."""
_WRONG = at_most(0.055, "of the sets")
_HIGHEST_POWER = 0.999

Law = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
"""Draws differences with a mean of 0 and a standard deviation of 1; of rows x seeds."""


def _normal(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    # Differences to a baseline that has a spread of its own, and so is shared by all.
    return (generator.standard_normal(shape) - generator.standard_normal(shape[1:])) / math.sqrt(2)


def _heavy(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return generator.standard_t(3, shape) / math.sqrt(3)


def _of_skewed_rows(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return (generator.exponential(size=shape) - generator.exponential(size=shape[1:])) / math.sqrt(2)


def _skewed(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return generator.exponential(size=shape) - 1


LAWS: Mapping[str, tuple[str, Law]] = {
    "normal": ("normal differences", _normal),
    "heavy": ("heavy tails (Student's t with 3 degrees of freedom)", _heavy),
    "skewed_rows": ("differences of two skewed rows (exponential)", _of_skewed_rows),
    "skewed": ("skewed differences (exponential)", _skewed),
}


def _claim(name: str, *rows: int, above: float = 0.0, below: float = math.inf) -> Claim:
    contrasts = tuple(
        Contrast(name, "AP", "percent", (Term(row, "AP"), Term(0, "AP", weight=-1.0)), above, below) for row in rows
    )
    return Claim(_EXPERIMENT, "Simulation", name, contrasts)


ON_THE_EDGE = (
    _claim("one contrast, no effect", 1),
    _claim("three contrasts, no effect in any", 1, 2, 3),
    _claim("three contrasts, no effect in one", 1, 4, 5),
    _claim("equivalence, the true difference at the margin", 6, above=-1.0, below=1.0),
)
"""Claims of which any verdict is wrong."""
TRUE = (
    *(_claim(f"an effect of {_EFFECTS[row - 1]:g} standard deviations", row) for row in (7, 6, 8, 9)),
    _claim("equivalence, no effect, a margin of one standard deviation", 2, above=-1.0, below=1.0),
)
ALL = (*ON_THE_EDGE, *TRUE)


@dataclass(frozen=True)
class Verdicts:
    """What the judging said of simulated sets: +1 for confirmed, -1 for contradicted, 0 otherwise.

    Attributes:
        alone: of sets x looks x claims.
        holm: the same after Holm's correction.
        fixed: whether an ordinary t-test of the first claim at 5 % tells an effect; of sets x looks.
        between: how many verdicts at a number of seeds between two looks were not those of the last look.
        judged_between: how many such verdicts there were.
    """

    alone: np.ndarray
    holm: np.ndarray
    fixed: np.ndarray
    between: int
    judged_between: int

    def are_wrong(self) -> np.ndarray:
        """Whether the verdict on each claim of `ON_THE_EDGE` alone is wrong; of sets x looks x claims."""
        return self.alone[:, :, : len(ON_THE_EDGE)] != 0

    def any_wrong_after_holm(self) -> np.ndarray:
        """Whether any claim of the set has a wrong verdict after Holm's correction; of sets x looks."""
        on_the_edge, true = self.holm[:, :, : len(ON_THE_EDGE)] != 0, self.holm[:, :, len(ON_THE_EDGE) :] < 0
        return np.asarray(on_the_edge.any(axis=2) | true.any(axis=2))


def simulate(law: Law, sets: int, generator: np.random.Generator, claims: Sequence[Claim] = ALL) -> Verdicts:
    """Judge simulated sets of claims at each look.

    Args:
        law: of the differences.
        sets: how many.
        generator: of the random numbers.
        claims: of each set; the first has one contrast.
    """
    alone, holm = (np.zeros((sets, len(LOOKS), len(claims)), dtype=np.int8) for _ in range(2))
    fixed = np.zeros((sets, len(LOOKS)), dtype=bool)
    differing, judged_between = 0, 0
    for index in range(sets):
        values = law(generator, (len(_EFFECTS), LOOKS[-1])) + np.array(_EFFECTS)[:, None]
        trials = [[{"AP": value} for value in row] for row in (np.zeros(LOOKS[-1]).tolist(), *values.tolist())]
        for look, seeds in enumerate(LOOKS):
            judgements = _judged(claims, trials, seeds)
            alone[index, look] = _codes(judgement.verdict for judgement in judgements)
            holm[index, look] = _codes(judgement.verdict_holm for judgement in judgements)
            last = judgements[0].parts[0].estimate
            assert isinstance(last, SeedsEstimate)
            fixed[index, look] = min(last.looks[-1].p_above(0.0), last.looks[-1].p_below(0.0)) <= TAIL
        if index % _BETWEEN == 0:
            for seeds in set(range(LOOKS[0], LOOKS[-1])) - set(LOOKS):
                look = sum(each <= seeds for each in LOOKS) - 1
                judgements = _judged(claims, trials, seeds)
                differing += int((_codes(each.verdict for each in judgements) != alone[index, look]).sum())
                differing += int((_codes(each.verdict_holm for each in judgements) != holm[index, look]).sum())
                judged_between += 2 * len(judgements)
    return Verdicts(alone, holm, fixed, differing, judged_between)


def _judged(claims: Sequence[Claim], trials: list[list[dict[str, float]]], seeds: int) -> list[Judgement]:
    rows = {row: NumbersOfRow(dict(enumerate(numbers[:seeds]))) for row, numbers in enumerate(trials)}
    return judge(claims, {_EXPERIMENT: rows})


def _codes(verdicts: Iterator[str]) -> np.ndarray:
    return np.array([{"confirmed": 1, "contradicted": -1}.get(verdict, 0) for verdict in verdicts], dtype=np.int8)


def measure_verdicts(bench: Workbench, rounds: int) -> Iterator[Row]:
    """Wrong verdicts under each rule to stop and each law, then power and seeds; `rounds` counts the sets of a law."""
    generator = np.random.default_rng(SEED)
    for name, (text, law) in LAWS.items():
        verdicts = simulate(law, rounds, generator)
        chosen = generator.integers(len(LOOKS), size=rounds)
        kinds = {claim.words: verdicts.are_wrong()[:, :, index] for index, claim in enumerate(ON_THE_EDGE)}
        kinds["any of nine claims, after Holm"] = verdicts.any_wrong_after_holm()
        alone = [claim for claim in ON_THE_EDGE if len(claim.contrasts) == 1]
        more = simulate(law, _MORE * rounds, np.random.default_rng([SEED, list(LAWS).index(name)]), alone)
        kinds |= {claim.words: more.alone[:, :, index] != 0 for index, claim in enumerate(alone)}
        for number, (kind, wrong) in enumerate(kinds.items()):
            at_one = wrong[np.arange(len(wrong)), np.resize(chosen, len(wrong))]
            rules = {"at any look": wrong.any(axis=1), "at a look by chance": at_one}
            for index, (rule, found) in enumerate(rules.items()):
                yield _rate(f"verdicts.{name}.{number}.{index}", f"wrong verdicts {rule}: {kind}; {text}", found, name)
        ordinary = np.asarray(verdicts.fixed.any(axis=1))
        yield _rate(f"verdicts.{name}.ordinary", f"an ordinary t-test at each look, no effect; {text}", ordinary, "")
        yield stated_row(
            f"verdicts.{name}.between",
            f"verdicts between looks that are not the last look's, of {verdicts.judged_between}; {text}",
            verdicts.between,
            "verdicts",
            rounds=-(-rounds // _BETWEEN),
            must=at_most(0),
        )
        if name == "normal":
            yield from _power(verdicts)


def _rate(name: str, what: str, found: np.ndarray, law: str) -> Row:
    """How often something happened, with its 95 % interval; it must be reached where the design promises it."""
    interval = binomtest(int(found.sum()), len(found)).proportion_ci()
    row = stated_row(
        name,
        what,
        float(found.mean()),
        "of the sets",
        rounds=len(found),
        must=_WRONG if law == "normal" else None,
        note=f"95 % interval {100 * interval.low:.2f} to {100 * interval.high:.2f} %",
    )
    return row | {"reached": _WRONG.reached(interval.low, interval.high) if law == "normal" else None}


def _power(verdicts: Verdicts) -> Iterator[Row]:
    for index, claim in enumerate(TRUE, start=len(ON_THE_EDGE)):
        is_found = verdicts.alone[:, :, index] > 0
        power = float(is_found[:, -1].mean())
        seeds = LOOKS[0] + float((np.diff(LOOKS) * ~is_found[:, :-1]).sum(axis=1).mean())
        effect = _EFFECTS[claim.contrasts[0].terms[0].row - 1]
        # Nobody plans for a power of one, which no number of seeds has.
        same = min(power, _HIGHEST_POWER)
        fixed = f"; a fixed number of seeds for {same:.3g}: {seeds_needed(effect, 1.0, same):.0f}" if effect else ""
        yield stated_row(
            f"verdicts.power.{index}",
            f"confirmed by the last look: {claim.words}",
            power,
            "of the sets",
            rounds=len(is_found),
            note=f"after {seeds:.1f} seeds on average{fixed}",
        )
