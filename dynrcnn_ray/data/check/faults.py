"""What a check has found, as lines for people, and the records that are left."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_MOST_EXAMPLES = 5
_LONGEST_VALUE = 60
CORRECT_OR_DROP = "correct them, or leave them out with --data.drop-invalid"

Kind = Literal["file", "category", "image", "annotation"]
_PLURALS = {"category": "categories", "image": "images", "annotation": "annotations"}


@dataclass(frozen=True)
class Fault:
    """One problem of a file, with all the records that have it.

    Attributes:
        file: The annotations file.
        kind: What has the problem. Images and annotations can be left out; a file or a category cannot.
        problem: What is wrong.
        remedy: What to do.
        count: How many have it.
        examples: The first few: their ids and what they hold.
        is_error: Whether it must be dealt with; otherwise it is a note.
        follows: Whether it only follows from the errors before it.
        may_be_whole: It could not be read just now, which is no reason to leave anything out.
    """

    file: Path
    kind: Kind
    problem: str
    remedy: str
    count: int = 1
    examples: tuple[str, ...] = ()
    is_error: bool = True
    follows: bool = False
    may_be_whole: bool = False

    @property
    def can_be_dropped(self) -> bool:
        """Whether `data.drop_invalid` gets rid of it."""
        return self.kind in ("image", "annotation") and not self.may_be_whole

    def __str__(self) -> str:
        """One line: file, problem, how many, the first ids, remedy."""
        if self.kind == "file":
            return f"{self.file}: {self.problem}; {self.remedy}"
        number = f"{self.count} {self.kind if self.count == 1 else _PLURALS[self.kind]}"
        more = ", ..." if self.count > len(self.examples) else ""
        return f"{self.file}: {self.problem}: {number} ({', '.join(self.examples)}{more}); {self.remedy}"


class Records:
    """The records of one list of an annotations file, less those that a fault has refused.

    Attributes:
        left: The records that are left. One that was changed is a copy: the file's content stays as it is.
        rows: Their positions in the list, int64 `[n]`.
        faults: What was refused or noted so far.
        is_changed: Whether any record that is left differs from the file's.
    """

    def __init__(self, file: Path, kind: Kind, records: Sequence[Any]) -> None:
        """Start with all records of a list."""
        self.file = file
        self._kind: Kind = kind
        self.left = list(records)
        self.rows: NDArray[np.int64] = np.arange(len(self.left))
        self.faults: list[Fault] = []
        self.is_changed = False
        self._converted: dict[str, dict[int, str]] = {}
        self._columns: dict[str, list[Any]] = {}

    def column(self, key: str, default: Any = None) -> list[Any]:
        """One field of the records that are left; a key always has the same default."""
        if key not in self._columns:
            self._columns[key] = [record.get(key, default) for record in self.left]
        return self._columns[key]

    def refuse(
        self,
        bad: NDArray[np.bool_],
        problem: str,
        remedy: str,
        value: str | Callable[[int], str] | None = None,
        *,
        may_be_whole: bool = False,
    ) -> None:
        """Take records out, and say why.

        Args:
            bad: which of the records that are left, `[n]`.
            problem: what is wrong with them.
            remedy: what to do.
            value: what to show of each: a field, or a function of the position among those that are left.
            may_be_whole: as in `Fault`.
        """
        if bad.any():
            fault = self._fault(bad, problem, remedy, value, is_error=True)
            self.faults.append(dataclasses.replace(fault, may_be_whole=may_be_whole))
            self.keep(~bad)

    def refuse_each(
        self, problems: Sequence[str], remedy: str, value: str | Callable[[int], str] | None = None
    ) -> None:
        """Take out the records that have a problem; `problems` has one for each that is left, empty for none."""
        left = np.array(problems, dtype=object)
        for problem in dict.fromkeys(filter(None, problems)):
            bad = left == problem
            self.refuse(bad, problem, remedy, value)
            left = left[~bad]

    def note(
        self,
        which: NDArray[np.bool_],
        problem: str,
        remedy: str,
        value: str | Callable[[int], str] | None = None,
    ) -> None:
        """Note records and keep them."""
        if which.any():
            self.faults.append(self._fault(which, problem, remedy, value, is_error=False))

    def keep(self, good: NDArray[np.bool_]) -> None:
        """Take the others out silently."""
        if good.all():
            return
        self._columns.clear()
        self.rows = self.rows[good]
        self.left = [self.left[row] for row in good.nonzero()[0].tolist()]

    def change(self, key: str, values: Mapping[int, Any]) -> None:
        """Give a field of some records, by their positions among those that are left, another value."""
        for position, value in values.items():
            self.left[position] = {**self.left[position], key: value}
        if values:
            self._columns.pop(key, None)
            self.is_changed = True

    def convert(self, key: str, types: Set[type], converted: Callable[[Any], Any], default: Any = None) -> None:
        """Convert a field where its value has another type.

        Args:
            key: the field; records without it are left alone.
            types: of values that stay as they are.
            converted: gives the value in one of the types, or None where that would lose something.
            default: as for `column`.
        """
        column = self.column(key, default)
        if not set(map(type, column)) <= types:
            self.convert_at([at for at, value in enumerate(column) if type(value) not in types], key, converted)

    def convert_at(self, positions: Iterable[int], key: str, converted: Callable[[Any], Any]) -> None:
        """Convert a field of some of the records that are left."""
        found = {at: self.left[at][key] for at in positions if key in self.left[at]}
        values = {at: value for at, old in found.items() if (value := converted(old)) is not None}
        rows = self._converted.setdefault(key, {})
        for at in values:
            rows[int(self.rows[at])] = self._name(at) + ("" if key == "id" else f": {key} {shown(found[at])}")
        self.change(key, values)

    def note_conversions(self) -> None:
        """Tell of all conversions so far, in one note."""
        rows: dict[int, str] = {}
        for of_field in self._converted.values():
            rows = of_field | rows
        if rows:
            fields = ", ".join(key for key, of_field in self._converted.items() if of_field)
            examples = tuple(itertools.islice(rows.values(), _MOST_EXAMPLES))
            problem, remedy = f"values of another JSON type ({fields})", "read as what they stand for"
            self.faults.append(Fault(self.file, self._kind, problem, remedy, len(rows), examples, is_error=False))

    def _fault(
        self,
        which: NDArray[np.bool_],
        problem: str,
        remedy: str,
        value: str | Callable[[int], str] | None,
        *,
        is_error: bool,
    ) -> Fault:
        positions = which.nonzero()[0].tolist()
        examples = []
        for position in positions[:_MOST_EXAMPLES]:
            example = self._name(position)
            if isinstance(value, str):
                example += f": {value} {shown(self.left[position].get(value))}"
            elif value is not None:
                example += f": {value(position)}"
            examples.append(example)
        return Fault(self.file, self._kind, problem, remedy, len(positions), tuple(examples), is_error)

    def _name(self, position: int) -> str:
        record = self.left[position]
        if isinstance(record, dict) and "id" in record:
            return f"id {shown(record['id'])}"
        return f"{_PLURALS[self._kind]}[{self.rows[position]}]"


def shown(value: Any) -> str:
    """A value for a message: on one line, printable, and not long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
