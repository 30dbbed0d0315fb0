"""The name of a table's row, made from its label cells."""

from collections import Counter
from collections.abc import Mapping, Sequence

CHECK = "✓"
"""The cell of a component that is switched on, as in the paper's Table 3."""
NO_CELL = "-"
"""The cell of a row to which a column does not apply."""
EMPTY_CELLS = ("", NO_CELL)
OWN_COLUMNS = ("row", "name", "source", "status", "n", "n_planned")
"""Columns that every table has: no label may be called so."""
_PLAIN_COLUMNS = ("Setting", "Method", "Backbone", "Task", "Convention")
"""Columns whose cells are understood without the column's name."""


def row_label(labels: Mapping[str, str]) -> str:
    """A short name: "DLA + DSL" from checkmarks, "K_I = 64" from values, "RetinaNet, ResNet-101" from methods.

    It is "baseline" if all cells are empty.
    """
    # Tables of one name that have the same columns in another order name a row alike.
    switched_on = sorted(name for name, cell in labels.items() if cell == CHECK)
    valued = [
        cell if name in _PLAIN_COLUMNS else f"{name} = {cell}"
        for name, cell in labels.items()
        if cell not in (CHECK, *EMPTY_CELLS)
    ]
    parts = [" + ".join(switched_on), *valued]
    return ", ".join(part for part in parts if part) or "baseline"


def row_names(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """A short name for each row of a table; a column whose cells are all the same tells no row from another.

    What is switched off is left out, unless a row that does not have the column would have the same name.
    """
    if len(rows) == 1:
        return [row_label(rows[0])]
    columns = dict.fromkeys(name for row in rows for name in row)
    telling = [name for name in columns if len({row.get(name, NO_CELL) for row in rows}) > 1]
    names = [row_label({name: row.get(name, NO_CELL) for name in telling}) for row in rows]
    off = [", ".join(f"no {name}" for name in telling if row.get(name) == "") for row in rows]
    times = Counter(names)
    return [
        f"{name}, {without}" if without and times[name] > 1 else name for name, without in zip(names, off, strict=True)
    ]
