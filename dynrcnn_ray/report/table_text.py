"""A result table for people: Markdown, and aligned text for a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from dynrcnn_ray.report.table_cells import Cell, Grid, TableCells, make_cells, simple_grid
from dynrcnn_ray.report.text_width import width_of


def table_to_markdown(table: pd.DataFrame, plan: pd.DataFrame) -> str:
    """The table of `build_table` as Markdown, with title and caption. It reads well as plain text, too."""
    return cells_to_markdown(make_cells(table, plan))


def cells_to_markdown(cells: TableCells) -> str:
    """Any cells as Markdown."""
    main, *others = cells.grids
    parts = [f"**{cells.reference}. {main.title}**", _markdown(main)]
    parts += [f"{cells.run}; command: `{cells.command}`.", " ".join(cells.notes)]
    for grid in others:
        parts += [f"{grid.title}:", _markdown(grid)]
    return "\n\n".join(parts) + "\n"


def table_to_text(table: pd.DataFrame, plan: pd.DataFrame) -> str:
    """The table of `build_table` for a terminal: the Markdown's content, aligned and without its marks."""
    return cells_to_text(make_cells(table, plan))


def cells_to_text(cells: TableCells) -> str:
    """Any cells for a terminal."""
    main, *others = cells.grids
    lines = [f"{cells.reference}. {main.title}", "", *_text(main)]
    lines += [f"{cells.run}; command: {cells.command}.", *cells.notes]
    for grid in others:
        lines += ["", grid_to_text(grid)]
    return "\n".join(lines) + "\n"


def grid_to_text(grid: Grid) -> str:
    """One grid below its title, for a terminal."""
    return "\n".join([f"{grid.title}:", "", *_text(grid)])


def simple_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of ready cells: the first column is text, the others are numbers."""
    return _markdown(simple_grid("", header, rows))


@dataclass(frozen=True)
class _Aligned:
    """A column's cells of one width; the first is the header."""

    cells: list[str]
    is_left_aligned: bool

    @property
    def markdown_rule(self) -> str:
        dashes = "-" * (width_of(self.cells[0]) - 1)
        return f":{dashes}" if self.is_left_aligned else f"{dashes}:"


def _markdown(grid: Grid) -> str:
    columns = _align(grid)
    # A sign of a label's own would be taken for a column's border.
    header, *body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in _lines(columns)]
    rule = "| " + " | ".join(column.markdown_rule for column in columns) + " |"
    return "\n".join([header, rule, *body])


def _text(grid: Grid) -> list[str]:
    header, *body = ["  ".join(line).rstrip() for line in _lines(_align(grid))]
    rule = "─" * max(width_of(line) for line in [header, *body])
    return [header, rule, *body, rule]


def _lines(columns: list[_Aligned]) -> list[tuple[str, ...]]:
    return list(zip(*(column.cells for column in columns), strict=True))


def _align(grid: Grid) -> list[_Aligned]:
    by_column = zip(*(line.cells for line in grid.lines), strict=True)
    return [
        _numbers(column.title, cells)
        if column.is_number
        else _texts(column.title, [f"{cell.text} {cell.addition}".rstrip() for cell in cells])
        for column, cells in zip(grid.columns, by_column, strict=True)
    ]


def _texts(header: str, cells: list[str]) -> _Aligned:
    width = max(3, *(width_of(cell) for cell in [header, *cells]))
    return _Aligned([cell + " " * (width - width_of(cell)) for cell in [header, *cells]], is_left_aligned=True)


def _numbers(header: str, cells: Sequence[Cell]) -> _Aligned:
    # The numbers stand right under each other, also where only some carry a spread or an interval.
    width = max(len(cell.text) for cell in cells)
    texts = [f"{cell.text.rjust(width)} {cell.addition}".rstrip() for cell in cells]
    if any(cell.addition for cell in cells):
        return _texts(header, texts)
    width = max(3, *(len(text) for text in [header, *texts]))
    return _Aligned([text.rjust(width) for text in [header, *texts]], is_left_aligned=False)
