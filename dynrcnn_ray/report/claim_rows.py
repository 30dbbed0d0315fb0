"""The rows that a claim may name: by their names in the table, or by cells of their labels."""

import difflib
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dynrcnn_ray.store.labels import CHECK, EMPTY_CELLS, NO_CELL, row_label, row_names

_NUMBER = re.compile(r"[\d.]+")
_NAME_GOES_ON = re.compile(r"[\w.]")


@dataclass(frozen=True)
class ClaimRow:
    """A row of a table as a claim sees it.

    Attributes:
        labels: the cells of its label columns.
        reported: a paper's numbers by metric.
        metric_prefix: "segm_" where its numbers are those of the masks.
    """

    labels: Mapping[str, str]
    reported: Mapping[str, float]
    metric_prefix: str = ""


@dataclass(frozen=True)
class RowNames:
    """What rows of a table are called.

    Attributes:
        rows: by their place in the table.
        names: of each row, for messages.
        references: the texts that stand for rows, each with the places of those that it may mean.
        cells: the same of the cells that stand in brackets.
    """

    rows: Mapping[int, ClaimRow]
    names: Mapping[int, str]
    references: Mapping[str, frozenset[int]]
    cells: Mapping[str, frozenset[int]]

    @classmethod
    def of_table(cls, rows: Sequence[ClaimRow]) -> "RowNames":
        """The names of all rows: as the table shows them, and any cell that tells a row from the others."""
        names = row_names([row.labels for row in rows]) if rows else []
        cells = _places((cell, index) for index, row in enumerate(rows) for cell in _cells(row.labels))
        of_names = _places((name, index) for index, name in enumerate(names))
        return cls(dict(enumerate(rows)), dict(enumerate(names)), {**cells, **of_names}, cells)

    @classmethod
    def of_references(cls, rows: Mapping[int, ClaimRow], references: Mapping[str, int]) -> "RowNames":
        """Rows that are known already by the very texts that stand for them."""
        return cls(rows, {place: text for text, place in references.items()}, _places(references.items()), {})

    def longest(self, text: str, start: int, *, in_brackets: bool = False) -> str:
        """The longest reference, or cell, that stands in a text at a place; empty if there is none."""
        found = ""
        for known in self.cells if in_brackets else self.references:
            # A number is a row's name in quotes or brackets alone.
            if not in_brackets and _NUMBER.fullmatch(known):
                continue
            match = _pattern(known).match(text, start)
            if match and len(match[0]) > len(found) and not _is_cut(match[0], text, match.end()):
                found = match[0]
        return found

    def places(self, reference: str, *, in_brackets: bool = False) -> frozenset[int]:
        """The rows that a text stands for; none if it is no reference."""
        known = self.cells if in_brackets else self.references
        return next((places for name, places in known.items() if _pattern(name).fullmatch(reference)), frozenset())

    def told(self, places: Iterable[int] | None = None) -> str:
        """Names of rows for a message; all of them without `places`."""
        return ", ".join(repr(self.names[place]) for place in sorted(self.names if places is None else places))

    def similar(self, text: str) -> str:
        """A row's name that is much like a text; empty if there is none."""
        return next(iter(difflib.get_close_matches(text, list(self.names.values()), n=1)), "")


def _cells(labels: Mapping[str, str]) -> Iterator[str]:
    """A row's cells, each as a name has it, with its column, or as what is switched off."""
    for name, cell in labels.items():
        if cell == NO_CELL:
            continue
        if cell == CHECK:
            yield name
        elif cell in EMPTY_CELLS:
            yield f"no {name}"
        else:
            yield from dict.fromkeys((row_label({name: cell}), f"{name} = {cell}"))


def _places(pairs: Iterable[tuple[str, int]]) -> dict[str, frozenset[int]]:
    places: dict[str, frozenset[int]] = {}
    for text, place in pairs:
        places[text] = places.get(text, frozenset()) | {place}
    return places


@functools.cache
def _pattern(name: str) -> re.Pattern[str]:
    """A name with any spaces, and with or without them around = and +."""
    escaped = r"\s+".join(re.escape(part) for part in name.split())
    return re.compile(re.sub(r"\\s\+(=|\\\+)\\s\+", r"\\s*\1\\s*", escaped))


def _is_cut(found: str, text: str, end: int) -> bool:
    """Whether a longer word or number stands there, of which the name is a beginning."""
    return bool(_NAME_GOES_ON.match(found[-1]) and _NAME_GOES_ON.match(text, end))
