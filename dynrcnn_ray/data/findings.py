"""What a check has found, as lines for people, and the records that are left."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_MOST_EXAMPLES = 5
_LONGEST_VALUE = 60

Kind = Literal["file", "category", "image", "annotation"]


@dataclass(frozen=True)
class Finding:
    """One problem of a file, with all the records that have it.

    Attributes:
        file: The annotations file.
        kind: What has the problem. Images and annotations can be left out; a file or a category cannot.
        problem: What is wrong.
        remedy: What to do.
        count: How many have it.
        examples: The first few: their ids and what they hold.
        is_error: Whether it must be dealt with; otherwise it is a note.
    """

    file: Path
    kind: Kind
    problem: str
    remedy: str
    count: int = 1
    examples: tuple[str, ...] = ()
    is_error: bool = True

    @property
    def can_be_dropped(self) -> bool:
        """Whether `data.drop_invalid` gets rid of it."""
        return self.kind in ("image", "annotation")

    def __str__(self) -> str:
        """One line: file, problem, how many, the first ids, remedy."""
        if self.kind == "file":
            return f"{self.file}: {self.problem}; {self.remedy}"
        plural = {"category": "categories"}.get(self.kind, f"{self.kind}s")
        number = f"{self.count} {self.kind if self.count == 1 else plural}"
        more = ", ..." if self.count > len(self.examples) else ""
        return f"{self.file}: {self.problem}: {number} ({', '.join(self.examples)}{more}); {self.remedy}"


class Records:
    """The records of one list of an annotations file, less those that a finding has refused.

    Attributes:
        left: The records that are left.
        rows: Their positions in the list, int64 `[n]`.
        findings: What was refused or noted so far.
    """

    def __init__(self, file: Path, kind: Kind, records: Sequence[Any]) -> None:
        """Start with all records of a list."""
        self.file = file
        self._kind: Kind = kind
        self.left = list(records)
        self.rows: NDArray[np.int64] = np.arange(len(self.left))
        self.findings: list[Finding] = []
        self._columns: dict[str, list[Any]] = {}

    def column(self, key: str, default: Any = None) -> list[Any]:
        """One field of the records that are left; a key always has the same default."""
        if key not in self._columns:
            self._columns[key] = [record.get(key, default) for record in self.left]
        return self._columns[key]

    def refuse(
        self, bad: NDArray[np.bool_], problem: str, remedy: str, value: str | Callable[[int], str] | None = None
    ) -> None:
        """Take records out, and say why.

        Args:
            bad: which of the records that are left, `[n]`.
            problem: what is wrong with them.
            remedy: what to do.
            value: what to show of each: a field, or a function of the position among those that are left.
        """
        if bad.any():
            self.findings.append(self._finding(bad, problem, remedy, value, is_error=True))
            self.keep(~bad)

    def note(self, which: NDArray[np.bool_], problem: str, remedy: str, value: str | None = None) -> None:
        """Mention records and leave them in."""
        if which.any():
            self.findings.append(self._finding(which, problem, remedy, value, is_error=False))

    def keep(self, good: NDArray[np.bool_]) -> None:
        """Take the others out without a word."""
        if good.all():
            return
        self._columns.clear()
        self.rows = self.rows[good]
        self.left = [self.left[row] for row in good.nonzero()[0].tolist()]

    def _finding(
        self,
        which: NDArray[np.bool_],
        problem: str,
        remedy: str,
        value: str | Callable[[int], str] | None,
        *,
        is_error: bool,
    ) -> Finding:
        positions = which.nonzero()[0].tolist()
        examples = []
        for position in positions[:_MOST_EXAMPLES]:
            record = self.left[position]
            if isinstance(record, dict) and "id" in record:
                example = f"id {shown(record['id'])}"
            else:
                example = f"{self._list_name}[{self.rows[position]}]"
            if isinstance(value, str):
                example += f": {value} {shown(record.get(value))}"
            elif value is not None:
                example += f": {value(position)}"
            examples.append(example)
        return Finding(self.file, self._kind, problem, remedy, len(positions), tuple(examples), is_error)

    @property
    def _list_name(self) -> str:
        return {"category": "categories"}.get(self._kind, f"{self._kind}s")


def shown(value: Any) -> str:
    """A value for a message: on one line, printable, and not long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
