"""Whole sets of claims through the judging: wrong in 5 % at most, whenever one stops to add seeds.

So few sets tell a rule that errs at every look, as ordinary tests do, from one that holds. `benchmark --only verdicts`
knows the chances to a third of a percent.
"""

import numpy as np
import pytest
from scipy.stats import binom

from benchmarks.verdicts import LAWS, ON_THE_EDGE, Verdicts, simulate

SETS = 600
MOST = int(binom.ppf(0.9995, SETS, 0.05))
"""Of wrong verdicts, where their chance is 5 %."""


@pytest.fixture(scope="module")
def verdicts() -> Verdicts:
    return simulate(LAWS["normal"][1], SETS, np.random.default_rng(5))


@pytest.mark.slow
def test_wrong_verdicts_are_as_rare_as_promised_at_all_looks_together(verdicts: Verdicts):
    wrong = verdicts.are_wrong().any(axis=1).sum(axis=0)

    assert wrong.shape == (len(ON_THE_EDGE),)
    assert all(wrong <= MOST)
    assert verdicts.any_wrong_after_holm().any(axis=1).sum() <= MOST
    # Ordinary tests at each look would be seen.
    assert verdicts.fixed.any(axis=1).sum() > MOST


@pytest.mark.slow
def test_only_looks_change_a_verdict_and_what_is_decided_stays(verdicts: Verdicts):
    assert (verdicts.between, verdicts.judged_between > 0) == (0, True)
    for found in (verdicts.alone, verdicts.holm):
        decided = found != 0
        assert (decided[:, 1:] >= decided[:, :-1]).all()
    assert (np.abs(verdicts.holm) <= np.abs(verdicts.alone)).all()


@pytest.mark.slow
def test_true_claims_are_found(verdicts: Verdicts):
    found = (verdicts.alone[:, -1, len(ON_THE_EDGE) :] > 0).mean(axis=0)

    assert found[:4] == pytest.approx([0.47, 0.974, 1.0, 1.0], abs=0.06)
