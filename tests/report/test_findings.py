"""Verdicts against cases computed by hand, and against the rule that they state."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats

from dynrcnn_ray.report.findings import RATIO, Claim, Contrast, Judgement, Term, holm_factors, judge
from dynrcnn_ray.report.trial_numbers import NumbersOfRow, SpeedOfModel
from dynrcnn_ray.statistics.looks import LOOKS, SHARES, TAILS, chance_over_looks

RANGES = {
    "gains": (0.0, math.inf),
    "loses": (-math.inf, 0.0),
    "does not matter": (-1.0, 1.0),
    "does not gain": (-math.inf, 1.0),
    "at least as good": (-0.5, math.inf),
}


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def row_of(values, metric="AP"):
    return NumbersOfRow(trials={seed: {metric: value} for seed, value in enumerate(values)}, scale="mini")


def contrast_of(row, other, above=0.0, below=math.inf, paper=1.0):
    return Contrast("", "AP", "percent", (Term(row, "AP", 1.0, paper), Term(other, "AP", -1.0, 0.0)), above, below)


def claim_of(*contrasts):
    return Claim("table3", "Table 3", "claim", contrasts)


def judge_differences(*samples, above=0.0, below=math.inf):
    """The judgement on a claim whose contrasts measured these differences to a baseline that is not constant."""
    baseline = [50.0 + seed for seed in range(20)]
    rows = {0: row_of(baseline)}
    for index, sample in enumerate(samples, start=1):
        rows[index] = row_of([base + value for base, value in zip(baseline, sample, strict=False)])
    contrasts = [contrast_of(index, 0, above, below) for index in range(1, len(samples) + 1)]
    (judgement,) = judge([claim_of(*contrasts)], {"table3": rows})
    return judgement


def looks_at(sample):
    return [sample[:seeds] for seeds in LOOKS if seeds <= len(sample)]


def p_over_looks(sample, bound=0.0, alternative="greater"):
    """One-sided."""
    p_values = [stats.ttest_1samp(part, bound, alternative=alternative).pvalue for part in looks_at(sample)]
    return chance_over_looks(min(p / share for p, share in zip(p_values, SHARES, strict=False)))


def test_three_seeds_by_hand():
    # Differences 1, 2, 3: mean 2, deviation 1, t = 2 sqrt(3) with 2 degrees of freedom, where
    # Student's distribution has the closed form p = 1 - t / sqrt(t^2 + 2). The first look has a share of 1 / 28.
    judgement = judge_differences([1.0, 2.0, 3.0])

    t = 2 * math.sqrt(3)
    (part,) = judgement.parts
    assert part.estimate.mean == pytest.approx(2.0)
    half = (1 - 2 * TAILS[0]) / math.sqrt(2 * TAILS[0] * (1 - TAILS[0])) / math.sqrt(3)
    assert part.estimate.interval() == pytest.approx((2 - half, 2 + half))
    assert judgement.p == pytest.approx(2 * chance_over_looks(28 * (1 - t / math.sqrt(t**2 + 2)) / 2))
    assert (judgement.verdict, judgement.n, judgement.next_look) == ("undecided", 3, 5)


def test_before_the_first_look_there_is_no_verdict():
    judgement = judge_differences([2.0, 2.1])

    (part,) = judgement.parts
    assert part.estimate.mean == pytest.approx(2.05)
    assert all(math.isnan(end) for end in (*part.estimate.interval(), judgement.p))
    assert (judgement.verdict, judgement.n, judgement.next_look) == ("undecided", 2, 3)


def test_between_looks_the_last_one_holds():
    sample = [2.0, 2.1, 1.9, 1.0, 3.0, -50.0, 70.0]

    judgements = [judge_differences(sample[:seeds]) for seeds in (5, 6, 7)]

    for judgement in judgements:
        (part,) = judgement.parts
        assert (judgement.n, judgement.next_look, judgement.p) == (5, 8, judgements[0].p)
        assert part.estimate.interval() == judgements[0].parts[0].estimate.interval()
    assert [judgement.parts[0].estimate.seeds for judgement in judgements] == [5, 6, 7]


def test_after_the_last_look_nothing_changes():
    rows = {0: row_of([0.0] * 40), 1: row_of([*[0.1, -0.1] * 10, *[9.0] * 20])}

    (judgement,) = judge([claim_of(contrast_of(1, 0))], {"table3": rows})

    assert (judgement.verdict, judgement.n, judgement.next_look) == ("undecided", 20, None)
    assert judgement.parts[0].estimate.mean == pytest.approx(0.0)


def test_what_is_decided_stays_decided():
    sample = [2.0, 2.01, 1.99, -30.0, 30.0, -20.0, 25.0, 2.0]

    judgements = [judge_differences(sample[:seeds]) for seeds in (3, 5, 8)]

    assert [judgement.verdict for judgement in judgements] == ["confirmed"] * 3
    assert all(judgement.is_decided for judgement in judgements)
    assert judge_differences(sample[1:]).verdict == "undecided"


def test_the_lowest_seeds_count_and_not_those_that_finished_first():
    values = {7: 5.0, 9: 6.0, 8: 5.5, 1: 0.0, 4: -1.0, 0: 1.0}
    rows = {
        0: NumbersOfRow({seed: {"AP": 0.0} for seed in values}),
        1: NumbersOfRow({seed: {"AP": value} for seed, value in values.items()}),
    }

    (judgement,) = judge([claim_of(contrast_of(1, 0))], {"table3": rows})

    assert judgement.parts[0].estimate.mean == pytest.approx((1.0 + 0.0 - 1.0 + 5.0 + 5.5) / 5)
    assert judgement.parts[0].estimate.looks[0].mean == pytest.approx(0.0)


def test_a_planned_seed_that_has_not_finished_holds_up_the_looks():
    """Once it has, a look would take it in the place of a later one, and the verdict could turn."""
    values = {0: 1.0, 2: 1.05, 3: 0.95, 4: 1.0, 5: 1.1, 6: 1.0}
    baseline = NumbersOfRow({seed: {"AP": 50.0 + seed} for seed in range(8)})

    def judged(values: dict[int, float], missing: set[int]) -> Judgement:
        row = NumbersOfRow(
            {seed: {"AP": 50.0 + seed + value} for seed, value in values.items()}, missing=frozenset(missing)
        )
        (judgement,) = judge([claim_of(contrast_of(1, 0))], {"table3": {0: baseline, 1: row}})
        return judgement

    waiting = judged(values, {1, 7})
    (part,) = waiting.parts
    assert (waiting.verdict, part.waits_for, waiting.next_look, waiting.n, part.estimate.looks) == (
        *("undecided", 1, 3, 6),
        (),
    )
    late = judged({**values, 1: -40.0}, {7})
    assert (late.verdict, late.parts[0].waits_for, late.next_look) == ("undecided", None, 8)
    # What is planned of one row alone, or after the look, is not waited for.
    assert judged({seed: 1.0 + seed / 100 for seed in range(3)}, set()).verdict == "confirmed"
    assert judged({seed: 1.0 + seed / 100 for seed in range(3)}, {3, 9}).verdict == "confirmed"


def test_the_next_look_is_that_of_the_contrast_with_the_fewest_seeds():
    assert judge_differences([1.0, -1.0, 0.5, 0.2, 0.1], [2.0, -1.0]).next_look == 3


@pytest.mark.parametrize("name", RANGES)
def test_a_verdict_says_where_the_whole_interval_lies(name):
    above, below = RANGES[name]
    rng = np.random.default_rng(len(name))
    seen = set()
    for _ in range(300):
        sample = rng.normal(rng.uniform(-2, 2), rng.uniform(0.05, 1), rng.integers(3, 13)).tolist()

        judgement = judge_differences(sample, above=above, below=below)

        intervals = [
            stats.ttest_1samp(part, 0).confidence_interval(1 - 2 * tail)
            for part, tail in zip(looks_at(sample), TAILS, strict=False)
        ]
        low, high = max(each.low for each in intervals), min(each.high for each in intervals)
        assert judgement.parts[0].estimate.interval() == pytest.approx((low, high))
        inside, outside = above < low and high < below, high < above or below < low
        expected = "confirmed" if inside else "contradicted" if outside else "undecided"
        assert judgement.verdict == judgement.parts[0].verdict == expected
        assert (judgement.p <= 0.05) == (expected != "undecided")
        seen.add(expected)
    assert seen == {"confirmed", "contradicted", "undecided"}


def test_equivalence_is_two_one_sided_tests():
    sample = [0.1, -0.3, 0.4, 0.0, 0.2]

    (part,) = judge_differences(sample, above=-1.0, below=1.0).parts

    sides = p_over_looks(sample, -1.0, "greater"), p_over_looks(sample, 1.0, "less")
    assert part.p_for == pytest.approx(max(sides))


def test_no_difference_found_confirms_no_equivalence():
    assert judge_differences([3.0, -3.0, 0.5, -0.5], above=-1.0, below=1.0).verdict == "undecided"


def test_a_claim_of_several_contrasts_is_as_sure_as_its_weakest():
    strong, weak = [2.0, 2.1, 2.2, 2.1, 2.0], [1.0, 2.0, 0.9, 1.4, 1.2]

    judgement = judge_differences(strong, weak)

    assert judgement.verdict == "confirmed"
    assert judgement.p == pytest.approx(2 * p_over_looks(weak))
    assert judge_differences(strong, [2.0, -2.0, 0.5]).verdict == "undecided"


def test_one_contrast_of_several_contradicts_beyond_the_chance_of_so_many():
    # Alone the first contradicts; as one of two it does not.
    bad, good = [-1.0, -1.9, -2.0, -1.1, -0.9], [2.0, 2.1, 2.2, 2.1, 2.0]
    p = 2 * p_over_looks(bad, alternative="less")
    assert 0.025 < p < 0.05

    judgement = judge_differences(bad, good)

    assert judgement.parts[0].verdict == "contradicted"
    assert judgement.verdict == "undecided"
    assert judgement.p == pytest.approx(2 * p)
    assert judge_differences([-2.0, -2.1, -1.9, -2.0, -2.05], good).verdict == "contradicted"


def test_what_is_not_measured():
    good = [2.0, 2.1, 2.2]

    assert judge_differences([]).verdict == "not measured"
    assert judge_differences(good, []).verdict == "not measured"
    assert judge_differences([3.0]).verdict == "undecided"
    assert math.isnan(judge_differences([3.0]).p)
    # That one part fails is known before the other has run.
    assert judge_differences([-2.0, -2.01, -2.0], []).verdict == "contradicted"


def test_only_seeds_that_have_all_rows_count():
    rows = {
        0: NumbersOfRow({0: {"AP": 50.0}, 1: {"AP": 51.0}, 2: {"AP": math.nan}, 3: {"AP": 40.0}}),
        1: NumbersOfRow({0: {"AP": 52.0}, 1: {"AP": 54.0}, 2: {"AP": 60.0}, 7: {"AP": 1.0}}),
    }

    (judgement,) = judge([claim_of(contrast_of(1, 0))], {"table3": rows})

    assert judgement.parts[0].estimate.mean == 2.5
    assert judgement.n == 2


def test_a_difference_of_differences():
    rows = {
        0: NumbersOfRow({seed: {"AP90": 10.0 + seed, "AP50": 80.0 - seed} for seed in range(3)}),
        1: NumbersOfRow({seed: {"AP90": 15.0 + 2 * seed, "AP50": 79.0 + seed / 10} for seed in range(3)}),
    }
    terms = (Term(1, "AP90", 1, 15.2), Term(0, "AP90", -1, 9.7), Term(1, "AP50", -1, 57.3), Term(0, "AP50", 1, 58.0))
    contrast = Contrast("", "AP90 - AP50", "percent", terms)

    (judgement,) = judge([claim_of(contrast)], {"table3": rows})

    # Gains at AP90 are 5, 6, 7; at AP50 -1, 0.1, 1.2.
    assert judgement.parts[0].estimate.mean == pytest.approx(5.9)
    assert contrast.paper == pytest.approx(5.5 + 0.7)
    assert judgement.verdict == "confirmed"


@pytest.mark.parametrize("value", [0.0, 0.3, 2.0, -2.0])
@pytest.mark.parametrize("above", [-math.inf, -1.0, 0.3])
def test_differences_that_are_all_the_same_decide_nothing(value, above):
    """Where nothing is detected, all are zero: three of them do not make two rows equal."""
    assert judge_differences([value] * 5, above=above, below=1.0).verdict == "undecided"


def test_holms_correction_by_hand():
    # The example of R's p.adjust: 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 x 1 not below the one before it.
    p_values = [0.01, 0.04, 0.03, 0.005]

    corrected = [p * factor for p, factor in zip(p_values, holm_factors(p_values), strict=True)]

    assert corrected == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_counts_what_was_tested():
    p_values = [math.nan, 0.02, 0.0, math.nan]

    assert holm_factors(p_values) == [1.0, 1.0, 2.0, 1.0]
    assert holm_factors([]) == []


def test_the_verdict_after_holm_needs_a_smaller_p():
    nothing, clear, weak = [-1.0, 1.0, 0.5, -0.5, 0.1], [2.0, 2.1, 1.9, 2.0, 2.05], [0.9, 1.5, 1.0, 0.8, 1.3]
    samples = [*[nothing] * 8, clear, weak]
    rows = {0: row_of([0.0] * 5)} | {index: row_of(sample) for index, sample in enumerate(samples, 1)}

    judgements = judge([claim_of(contrast_of(index, 0)) for index in range(1, 11)], {"table3": rows})

    p = [judgement.p for judgement in judgements]
    expected = [min(1.0, value * factor) for value, factor in zip(p, holm_factors(p), strict=True)]
    assert [judgement.p_holm for judgement in judgements] == pytest.approx(expected)
    for judgement in judgements:
        decided = judgement.verdict if judgement.p_holm <= 0.05 else "undecided"
        assert judgement.verdict_holm == decided
    assert (judgements[8].verdict, judgements[8].verdict_holm) == ("confirmed", "confirmed")
    # Nine claims are left when it is its turn: 0.02 x 9.
    assert (judgements[9].verdict, judgements[9].verdict_holm) == ("confirmed", "undecided")


def speed_row(median, spread, rounds=40):
    return NumbersOfRow(speeds={"inference": SpeedOfModel(median, median - spread, median + spread, rounds)})


def speed_claim(above=1.0):
    terms = (Term(0, "inference", 1.0, 13.9), Term(1, "inference", -1.0, 11.2))
    return claim_of(Contrast("", "speed", RATIO, terms, above=above))


def test_a_few_rounds_tell_no_ratio():
    (judgement,) = judge([speed_claim()], {"table3": {0: speed_row(20.0, 0.0, 1), 1: speed_row(10.0, 0.0, 1)}})
    assert judgement.verdict == "undecided"


def test_a_ratio_of_speeds_by_hand():
    (judgement,) = judge([speed_claim()], {"table3": {0: speed_row(20.0, 0.5), 1: speed_row(10.0, 0.4)}})

    (part,) = judgement.parts
    # IQR 1.0 of 20 and 0.8 of 10, each over forty rounds.
    errors = [1.25 * 1.0 / (1.35 * math.sqrt(40)) / 20, 1.25 * 0.8 / (1.35 * math.sqrt(40)) / 10]
    half = 1.959964 * math.hypot(*errors)
    low, high = part.estimate.interval()
    assert (math.exp(low), math.exp(high)) == pytest.approx((2 * math.exp(-half), 2 * math.exp(half)))
    assert math.exp(part.contrast.paper) == pytest.approx(13.9 / 11.2)
    assert (judgement.verdict, judgement.n) == ("confirmed", 40)


def test_speeds_that_lie_close_and_speeds_that_lack():
    close = {0: speed_row(10.1, 1.0), 1: speed_row(10.0, 1.0)}

    assert judge([speed_claim()], {"table3": close})[0].verdict == "undecided"
    assert judge([speed_claim()], {"table3": {0: close[1], 1: NumbersOfRow()}})[0].verdict == "not measured"
    slower = {0: speed_row(5.0, 0.1), 1: speed_row(10.0, 0.1)}
    assert judge([speed_claim()], {"table3": slower})[0].verdict == "contradicted"


def test_the_error_of_a_median_is_that_of_medians():
    rng = np.random.default_rng(0)
    samples = rng.normal(20, 1, (20_000, 41))
    lower, median, upper = np.quantile(samples, (0.25, 0.5, 0.75), axis=1)

    told = np.mean([SpeedOfModel(*row, 41).relative_error * row[0] for row in zip(median, lower, upper, strict=True)])

    assert told == pytest.approx(np.std(median), rel=0.05)


def test_what_the_looks_promise_for_the_papers_difference():
    # One standard deviation from the end of the range, whichever end it is.
    contrasts = contrast_of(1, 0), contrast_of(1, 0, -math.inf, 1.0, paper=0.0), contrast_of(1, 0, -0.5, paper=0.5)
    for contrast in contrasts:
        assert contrast.outlook(1.0).chance == pytest.approx(0.974, abs=0.007)
        assert contrast.outlook(1.0).seeds == pytest.approx(11.9, abs=0.2)
    # Both ends at one standard deviation: each must be told.
    both = contrast_of(1, 0, -1.0, 1.0, paper=0.0).outlook(1.0)
    assert both.chance < 0.96
    assert both.seeds > 13
    # Seeds without any spread tell nothing of others.
    assert contrast_of(1, 0).outlook(0.0) is None
    for contrast in (contrast_of(1, 0, paper=math.nan), contrast_of(1, 0, paper=-1.0), speed_claim().contrasts[0]):
        assert contrast.outlook(1.0) is None
    assert contrast_of(1, 0).outlook(math.nan) is None
