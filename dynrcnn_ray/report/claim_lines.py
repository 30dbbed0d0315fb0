"""A claim in a line, such as `AP: both > baseline`, and the contrasts that it means.

```
claim    = part {";" part}                  all of them together
part     = [measures ":"] side {order side} without measures: those of the part before
order    = ">" | "<" | ">=" | "<="          a chain runs in one direction; ">=" is ">"
side     = sum {"," sum} | "|" sum "|"      each of several; a size, which is claimed below a margin
sum      = ["-"] term {("+" | "-") term}
term     = row | number
measures = measure {"," measure}            each of several
measure  = name {("+" | "-") name}          AP90 - AP50: the difference of two numbers of a trial
```

A row stands by its name in the table, or by a cell that no other row has (`K_I = 64`): of names that fit, the longest
one. Quotes say where a name ends. Brackets name a row by several of its cells, `[iou_top_k = 64, no dsl]`.

A claim is about differences of rows, so there are as many rows with plus as with minus; one row alone is set against a
number.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dynrcnn_ray.report.claim_rows import RowNames
from dynrcnn_ray.report.claim_sums import RowSum, SumReader
from dynrcnn_ray.report.findings import Contrast, Term
from dynrcnn_ray.report.trial_numbers import units_of_numbers
from dynrcnn_ray.store.metrics import METRICS

_UNITS = units_of_numbers()
_ORDERS = (">=", "<=", ">", "<")
_METRICS_TOLD = f"{', '.join(METRICS)}, the same with segm_, and early or late with a field of the course (late T_now)"
_MOST_PERCENT = 100


@dataclass(frozen=True)
class ReadClaim:
    """A claim whose line was read.

    Attributes:
        contrasts: all of them together make the claim.
        references: the texts that stand for rows in the line, each with its row's place.
    """

    contrasts: tuple[Contrast, ...]
    references: Mapping[str, int]


def read_line(line: str, rows: RowNames) -> ReadClaim:
    """What a claim's line means.

    Args:
        line: as in the grammar above.
        rows: those that it may name.

    Raises:
        ConfigError: what is wrong, where, and what is allowed.
    """
    reader = _Reader(line, rows)
    contrasts = tuple(reader.contrasts())
    return ReadClaim(contrasts, reader.references)


_Measure = Mapping[str, float]
"""Numbers of a trial with their weights."""


class _Reader(SumReader):
    """Reads a line from left to right."""

    def contrasts(self) -> Iterator[Contrast]:
        measures: list[_Measure] = []
        while True:
            start = self.start()
            measures = self._measures() or measures
            if not measures:
                self.refuse(start, f"it begins with no metric, such as 'AP: '; allowed: {_METRICS_TOLD}")
            yield from self._comparison(measures)
            if self.start() == len(self.line):
                return
            if not self.take(";"):
                self.refuse(self.place, f"{self.rest()!r} is not understood; a further comparison stands behind ';'")

    def _measures(self) -> list[_Measure]:
        """The measures in front of a colon; none, and nothing read, where there are none."""
        start = self.start()
        measures = [self._measure()]
        while measures[-1] and self.take(","):
            measures.append(self._measure())
        if measures[-1] and self.take(":"):
            return measures
        failed_at = self.place
        self.place = start
        if self.rows.longest(self.line, start) or self.line[start : start + 1] in ("|", "[", '"', "'", "-"):
            return []
        head, colon, _ = self.line[failed_at:].partition(":")
        if colon and ";" not in head:
            self.refuse(failed_at, f"{head.strip()!r} is no metric; allowed: {_METRICS_TOLD}")
        return []

    def _measure(self) -> _Measure:
        """A measure; empty if there is none."""
        start = self.start()
        weights: dict[str, float] = {}
        sign = 1.0
        while name := self._longest_of(_UNITS):
            weights[name] = weights.get(name, 0.0) + sign
            if not (operator := self.take("+", "-")):
                if len({_UNITS[each] for each in weights}) > 1:
                    units = " and ".join(dict.fromkeys(_UNITS[each] for each in weights))
                    self.refuse(start, f"{' and '.join(weights)} have other units: {units}")
                if not all(weights.values()):
                    self.refuse(start, "it sets a metric against itself")
                return weights
            sign = 1.0 if operator == "+" else -1.0
        return {}

    def _longest_of(self, names: Mapping[str, str]) -> str:
        start = self.start()
        fitting = [name for name in names if self.line.startswith(name, start)]
        found = max(fitting, key=len, default="")
        if not found or re.match(r"\w", self.line[start + len(found) :]):
            return ""
        self.place = start + len(found)
        return found

    def _comparison(self, measures: Sequence[_Measure]) -> Iterator[Contrast]:
        start = self.start()
        left = self._side()
        direction = ""
        while order := self._order():
            if order[0] != (direction or order[0]):
                self.refuse(self.place - len(order), f"{order!r} turns the chain round; a chain runs in one direction")
            direction = order[0]
            right = self._side()
            for first in left:
                for second in right:
                    yield from self._compared(start, first, second, direction, measures)
            left = right
        if not direction:
            self.refuse(self.place, f"{self.rest() or 'the end'!r} where >, <, >= or <= is expected")

    def _order(self) -> str:
        if order := self.take(*_ORDERS):
            return order
        if self.line[self.start() :].startswith("="):
            self.refuse(
                self.place, "'=' cannot be shown; claim a difference below a margin, such as |both - baseline| < 1"
            )
        return ""

    def _compared(
        self, start: int, left: RowSum, right: RowSum, order: str, measures: Sequence[_Measure]
    ) -> Iterator[Contrast]:
        if left.is_size or right.is_size:
            size, margin = (left, right) if left.is_size else (right, left)
            if margin.is_size or margin.weights or order != ("<" if left.is_size else ">"):
                self.refuse(start, "|...| can only be claimed to be below a number, such as |both - baseline| < 1")
            if margin.number <= 0:
                self.refuse(start, f"no size lies below {margin.number:g}; give a margin above zero")
            above, below = -margin.number - size.number, margin.number - size.number
            difference = size.minus(RowSum())
        else:
            if not left.weights:
                left, right, order = right, left, "<" if order == ">" else ">"
            difference = left.minus(right)
            limit = 0.0 - difference.number
            above, below = (limit, math.inf) if order == ">" else (-math.inf, limit)
        self._check_rows(start, left, right, difference)
        for measure in measures:
            yield self._contrast(start, difference, measure, above, below)

    def _check_rows(self, start: int, left: RowSum, right: RowSum, difference: RowSum) -> None:
        if not left.weights and not right.weights:
            self.refuse(
                start, f"it names no row (one that is called like a number stands in quotes); rows: {self.rows.told()}"
            )
        if not difference.weights:
            self.refuse(start, "it sets a row against itself")
        if sum(difference.weights.values()) and list(difference.weights.values()) != [1.0]:
            self.refuse(
                start,
                f"{difference.text!r} is no difference: there must be as many rows with plus as with minus, or one "
                f"row and a number; rows: {self.rows.told()}",
            )

    def _contrast(self, start: int, difference: RowSum, measure: _Measure, above: float, below: float) -> Contrast:
        terms = tuple(
            self._term(row, name, weight * times)
            for name, times in measure.items()
            for row, weight in difference.weights.items()
        )
        unit = _UNITS[next(iter(measure))]
        if unit == _UNITS["AP"]:
            lowest = sum(_MOST_PERCENT * min(term.weight, 0.0) for term in terms)
            highest = sum(_MOST_PERCENT * max(term.weight, 0.0) for term in terms)
            if above >= highest or below <= lowest or (above < lowest and below > highest):
                holds = "always holds" if above < lowest and below > highest else "can never hold"
                self.refuse(start, f"it {holds}: {difference.text} lies between {lowest:g} and {highest:g} percent")
        names = "".join((" + " if weight > 0 else " - ") + name for name, weight in measure.items())
        return Contrast(difference.text, names.removeprefix(" + ").strip(), unit, terms, above, below)

    def _term(self, row: int, measure: str, weight: float) -> Term:
        known = self.rows.rows[row]
        prefix = known.metric_prefix if measure in METRICS else ""
        return Term(row, prefix + measure, weight, known.reported.get(measure, math.nan))

    def _side(self) -> list[RowSum]:
        if self.take("|"):
            size = self.row_sum()
            if not self.take("|"):
                self.refuse(self.place, f"{self.rest() or 'the end'!r} where '|' is expected")
            size.is_size = True
            return [size]
        start = self.start()
        sums = [self.row_sum()]
        while self.take(","):
            sums.append(self.row_sum())
        if len({each.number for each in sums}) > 1:
            self.refuse(
                start, "a number belongs to one of several rows alone; write it on the other side, or with each"
            )
        return sums
