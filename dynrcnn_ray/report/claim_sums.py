"""Reads sums of rows in a claim's line: `both - baseline`, and what says where a row's name ends."""

import re
from dataclasses import dataclass, field
from typing import NoReturn

from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.report.claim_rows import RowNames

_NUMBER = re.compile(r"\d+(\.\d+)?|\.\d+")
_WORD = re.compile(r"[^<>=|,;+\-\[\]\"']+")


@dataclass
class RowSum:
    """Rows and a number, added up.

    Attributes:
        weights: how often each row counts, in the line's order; negative for what is taken away.
        names: what the line calls them.
        number: what is added to them.
        is_size: whether its size is meant, without its sign.
    """

    weights: dict[int, float] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    number: float = 0.0
    is_size: bool = False

    def minus(self, other: "RowSum") -> "RowSum":
        """The difference of two sums, without the rows that are in both."""
        weights = {**self.weights}
        for row, weight in other.weights.items():
            weights[row] = weights.get(row, 0.0) - weight
        return RowSum(
            {row: weight for row, weight in weights.items() if weight},
            {**other.names, **self.names},
            self.number - other.number,
        )

    @property
    def text(self) -> str:
        """What is set against what."""
        if sorted(self.weights.values()) == [-1.0, 1.0]:
            first, second = sorted(self.weights, key=lambda row: -self.weights[row])
            return f"{self.names[first]} against {self.names[second]}"
        signed = [
            (" + " if weight > 0 else " - ") + self.names[row]
            for row, weight in self.weights.items()
            for _ in range(round(abs(weight)))
        ]
        return "".join(signed).removeprefix(" + ").strip()


class SumReader:
    """A place in a line, from which texts and sums are read."""

    def __init__(self, line: str, rows: RowNames) -> None:
        """Stand before a line, which may name these rows."""
        self.line = line
        self.rows = rows
        self.place = 0
        self.references: dict[str, int] = {}

    def row_sum(self) -> RowSum:
        """The sum that stands here, which is then read."""
        total = RowSum()
        sign = -1.0 if self.take("-") else 1.0
        while True:
            self._add_term(total, sign)
            operator = self.take("+", "-")
            if not operator:
                return total
            sign = 1.0 if operator == "+" else -1.0

    def _add_term(self, total: RowSum, sign: float) -> None:
        start = self.start()
        reference = self.rows.longest(self.line, start)
        if not reference and (number := _NUMBER.match(self.line, start)):
            self.place = number.end()
            total.number += sign * float(number[0])
            return
        if reference:
            self.place = start + len(reference)
            name, places = _bare(reference), self.rows.places(reference)
        elif self.take("["):
            name, places = self._of_cells(start)
        elif quote := self.take('"', "'"):
            name, places = self._quoted(start, quote)
        else:
            word = _WORD.match(self.line, start)
            self._refuse_row(start, word[0].strip() if word else "")
        if len(places) > 1:
            self.refuse(start, f"{name!r} may be each of {self.rows.told(places)}; name one of them")
        (row,) = places
        total.weights[row] = total.weights.get(row, 0.0) + sign
        total.names.setdefault(row, name)
        self.references[self.line[start : self.place]] = row

    def _quoted(self, start: int, quote: str) -> tuple[str, frozenset[int]]:
        name, end, _ = self.line[self.place :].partition(quote)
        if not end:
            self.refuse(start, f"the quote {quote} has no end")
        self.place += len(name) + 1
        if not (places := self.rows.places(name)):
            self._refuse_row(start, name)
        return name, places

    def _of_cells(self, start: int) -> tuple[str, frozenset[int]]:
        cells: list[str] = []
        places = frozenset(self.rows.rows)
        while True:
            at = self.start()
            cell = self.rows.longest(self.line, at, in_brackets=True)
            if not cell:
                told = re.split(r"[,\]]", self.line[at:])[0].strip()
                known = ", ".join(repr(each) for each in self.rows.cells)
                self.refuse(at, f"{told!r} is no cell of a row; allowed: {known}")
            self.place = at + len(cell)
            cells.append(cell)
            places &= self.rows.places(cell, in_brackets=True)
            if self.take("]"):
                break
            if not self.take(","):
                self.refuse(self.place, f"{self.rest() or 'the end'!r} where ',' or ']' is expected")
        name = ", ".join(cells)
        if not places:
            self.refuse(start, f"no row has all of {name!r}; rows: {self.rows.told()}")
        return name, places

    def _refuse_row(self, start: int, text: str) -> NoReturn:
        if not text:
            self.refuse(start, f"{self.rest() or 'the end'!r} where a row or a number is expected")
        similar = self.rows.similar(text)
        guess = f"; did you mean {similar!r}?" if similar else ""
        self.refuse(start, f"{text!r} is no row{guess}; rows: {self.rows.told()}")

    def take(self, *texts: str) -> str:
        """The first of some texts that stands here, which is then read; empty if none does."""
        start = self.start()
        found = next((text for text in texts if self.line.startswith(text, start)), "")
        self.place = start + len(found)
        return found

    def start(self) -> int:
        """The place of what comes next, behind spaces."""
        while self.place < len(self.line) and self.line[self.place].isspace():
            self.place += 1
        return self.place

    def rest(self) -> str:
        """What has not been read yet."""
        return self.line[self.start() :]

    def refuse(self, place: int, what: str) -> NoReturn:
        """Say what is wrong at a place, with a `ConfigError`."""
        raise ConfigError(f"claims: {self.line!r}, character {place + 1}: {what}")


def _bare(reference: str) -> str:
    """A reference without its quotes or brackets, which a line that is read again has around it."""
    return reference[1:-1] if reference[:1] in ('"', "'", "[") else reference
