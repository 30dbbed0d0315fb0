"""Paired measurements: two candidates in turn, so that a drift of the machine meets both alike."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom


@dataclass(frozen=True)
class Paired:
    """What two candidates measured, round by round. `ratios` are a over b.

    Attributes:
        a: `[rounds]`, seconds, images per second or any other positive quantity of the first candidate.
        b: `[rounds]`, the same of the second.
    """

    a: NDArray[np.float64]
    b: NDArray[np.float64]

    @property
    def rounds(self) -> int:
        """Number of rounds."""
        return len(self.a)

    @property
    def ratios(self) -> NDArray[np.float64]:
        """`[rounds]`, the ratio of each round."""
        return self.a / self.b

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios: the one to report, as both sides of a round met the same machine."""
        return float(np.median(self.ratios))

    @property
    def ratio_of_medians(self) -> float:
        """The median of a over the median of b. It should be near `ratio`."""
        return float(np.median(self.a) / np.median(self.b))

    def quartiles(self) -> tuple[float, float]:
        """First and third quartile of the rounds' ratios."""
        low, high = np.quantile(self.ratios, (0.25, 0.75)).tolist()
        return low, high

    def interval(self) -> tuple[float, float]:
        """An interval that holds the true median ratio with 95 %, free of any assumption on the noise.

        With fewer than six rounds there is no such interval; then it is the smallest and the largest ratio.
        """
        ordered = np.sort(self.ratios)
        # The true median is below the k-th smallest value, from 0, as rarely as k fair coins or fewer show heads.
        rank = max(0, int(binom.ppf(0.025, self.rounds, 0.5)) - 1)
        return float(ordered[rank]), float(ordered[-1 - rank])


def paired(
    a: Callable[[], float],
    b: Callable[[], float],
    *,
    rounds: int,
    warm_up: int = 1,
    on_round: Callable[[int], None] = lambda done: None,
) -> Paired:
    """Run both in turn, A B, then B A, and so on.

    Args:
        a: measures the first candidate once and returns the quantity.
        b: the same of the second.
        rounds: rounds that count, at least one.
        warm_up: rounds before them that do not.
        on_round: called after each round that counts.
    """
    assert rounds >= 1, "nothing to measure"
    values: dict[str, list[float]] = {"a": [], "b": []}
    for round_index in range(-warm_up, rounds):
        in_turn = (("a", a), ("b", b))
        measured = {name: measure() for name, measure in (in_turn if round_index % 2 == 0 else reversed(in_turn))}
        if round_index >= 0:
            for name, value in measured.items():
                values[name].append(value)
            on_round(round_index + 1)
    return Paired(np.array(values["a"]), np.array(values["b"]))


def synchronise() -> None:
    """Wait for the GPU, if this process has used one."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def timed(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> Callable[[], float]:
    """The same as a measurement of its seconds. A GPU has done all that it was given before, and what it was given."""

    def measure() -> float:
        synchronise()
        started = clock()
        run()
        synchronise()
        return clock() - started

    return measure
