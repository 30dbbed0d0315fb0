"""The command that measures the rule of the ranks."""

import numpy as np
import pytest

from benchmarks.rank_rule import at_rank, main, rank_of


@pytest.mark.parametrize("curve", [np.array([1.0, 0.9, 0.6, 0.1]), np.array([0.0, 0.0, 0.2, 0.9])])
def test_a_value_is_found_at_the_rank_that_has_it(curve: np.ndarray):
    assert at_rank(curve, 2.5) == pytest.approx((curve[1] + curve[2]) / 2)
    for rank in (2.5, 3.0, 3.25):
        assert rank_of(curve, at_rank(curve, rank)) == pytest.approx(rank)


@pytest.mark.slow
def test_the_first_line_is_the_papers_own(cache_home, capsys: pytest.CaptureFixture[str]):
    main(["--scale", "smoke", "--train.steps", "4"])
    header, _, first, *others = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(others) == 4
    cells = dict(zip(header.strip("| ").split(" | "), first.strip("| ").split(" | "), strict=False))
    assert cells["RoIs an object"] == "70.1"
    assert first.count("1.00 x") == 2
