import numpy as np
import pytest

from benchmarks.paired import Paired, paired, timed


def test_both_run_in_turn_and_the_order_alternates():
    order: list[str] = []

    def candidate(name: str, value: float):
        def measure() -> float:
            order.append(name)
            return value

        return measure

    done: list[int] = []
    result = paired(candidate("a", 3.0), candidate("b", 2.0), rounds=3, warm_up=1, on_round=done.append)
    assert "".join(order) == "baabbaab"
    assert done == [1, 2, 3]
    assert result.rounds == 3
    assert result.ratio == 1.5


def test_the_warm_up_does_not_count():
    values = iter([100.0, 1.0, 2.0])
    result = paired(lambda: next(values), lambda: 1.0, rounds=2, warm_up=1)
    assert result.a.tolist() == [1.0, 2.0]


def test_a_drift_of_the_machine_cancels_in_the_ratio():
    drift = np.linspace(1, 5, 41)
    result = Paired(1.1 * drift, drift)
    assert result.ratio == pytest.approx(1.1)
    assert result.quartiles() == pytest.approx((1.1, 1.1))


def test_the_ratio_of_medians_differs_where_the_pairs_do():
    result = Paired(np.array([1.0, 10.0, 100.0]), np.array([10.0, 1.0, 50.0]))
    assert result.ratio == 2.0
    assert result.ratio_of_medians == 1.0


@pytest.mark.parametrize("rounds", [6, 9, 20, 101])
def test_the_interval_holds_the_true_median_as_often_as_it_says(rounds: int):
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        low, high = Paired(rng.exponential(size=rounds), np.ones(rounds)).interval()
        hits += low <= np.log(2) <= high
    assert hits >= 940


def test_the_interval_of_few_rounds_is_all_of_them():
    assert Paired(np.array([3.0, 1.0, 2.0]), np.ones(3)).interval() == (1.0, 3.0)
    low, high = Paired(np.arange(1.0, 101.0), np.ones(100)).interval()
    assert 35 <= low < 50 < high <= 66


def test_timed_gives_seconds():
    ran = []
    assert timed(lambda: ran.append(1))() >= 0
    assert ran == [1]
