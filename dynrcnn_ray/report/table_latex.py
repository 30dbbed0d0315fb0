r"""A result table as LaTeX for pdflatex, to be `\input` into a paper."""

import re
import unicodedata
from collections.abc import Callable

import pandas as pd

from dynrcnn_ray.report.table_cells import Cell, Column, Grid, Line, TableCells, make_cells

_PACKAGES = "% Packages: booktabs, amssymb."
_WIDE = (
    "% A table* spans both columns of a page with two; the package rotating sets one sideways that is still too wide."
)
_CHARACTERS = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"${character}$" for character in "<>|"},
    # At the start of a line, LaTeX would read these two as arguments of the line break before it.
    "[": "{[}",
    "*": "{*}",
    '"': r"{\char34}",
    "\u2212": "$-$",
    "\u2013": "--",
    "§": r"\S{}",
    "\u00d7": r"$\times$",
    "±": r"$\pm$",
    "≈": r"$\approx$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "✓": r"$\checkmark$",
    "β": r"$\beta$",
    "·": r"$\cdot$",
    "Δ": r"$\Delta$",
}
_SIGN = re.compile(r"(?<!\w)[+-](?=\d)")
_SUBSCRIPT = re.compile(r"(?<![A-Za-z0-9])(AP|K)_?(\d\d|[ISMLβ])(?!\w)")
_UNKNOWN = "?"
_SENTENCE_WIDTH = r"p{0.34\textwidth}"


def table_to_latex(table: pd.DataFrame, plan: pd.DataFrame) -> str:
    """The table of `build_table` as LaTeX: one `table*` for each grid, with caption and label.

    Labels are `tab:<experiment>`, `tab:<experiment>-differences` and `tab:<experiment>-course`. The first line names
    the packages that the paper must load.
    """
    return cells_to_latex(make_cells(table, plan))


def cells_to_latex(cells: TableCells) -> str:
    """Any cells as LaTeX, in the same way."""
    comments = [_PACKAGES, _WIDE, f"% Made by: {' '.join(cells.command.split())}"]
    floats = [_float(grid, _caption(cells, grid), cells.experiment) for grid in cells.grids]
    return "\n".join(comments) + "\n\n" + "\n\n".join(floats) + "\n"


def escape_latex(text: str, *, is_number: bool = False) -> str:
    r"""Plain text as LaTeX; K_β and AP50 become a letter with a subscript.

    Args:
        text: any text; what pdflatex knows no character for becomes a question mark.
        is_number: whether a hyphen before a digit is a minus.
    """
    if is_number:
        return _escape_pieces(_SIGN, text, lambda sign: f"${sign.group()}$")
    return _escape_pieces(_SUBSCRIPT, text, lambda name: f"{name[1]}$_{{{_subscript(name[2])}}}$")


def _float(grid: Grid, caption: str, experiment: str) -> str:
    alignment = "".join(_alignment(column) for column in grid.columns)
    header = " & ".join(escape_latex(column.title) for column in grid.columns)
    label = f"tab:{experiment}-{grid.name}" if grid.name else f"tab:{experiment}"
    return "\n".join(
        [
            r"\begin{table*}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\label{{{label}}}",
            r"\footnotesize",
            r"\setlength{\tabcolsep}{2.5pt}",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            rf"{header} \\",
            r"\midrule",
            *_body(grid),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table*}",
        ]
    )


def _alignment(column: Column) -> str:
    return _SENTENCE_WIDTH if column.is_sentence else "r" if column.is_number else "l"


def _caption(cells: TableCells, grid: Grid) -> str:
    if grid is cells.grids[0]:
        return escape_latex(f"{grid.title} ({cells.reference}). {cells.run}. {' '.join(cells.notes)}")
    return escape_latex(f"{grid.title}. {cells.run}.")


def _body(grid: Grid) -> list[str]:
    by_column = zip(*(line.cells for line in grid.lines), strict=True)
    widest = [max((_tail(cell) for cell in cells), key=len) for cells in by_column]
    has_pairs = any(not line.starts_row for line in grid.lines)
    body: list[str] = []
    for line in grid.lines:
        if body and has_pairs and line.starts_row:
            body.append(r"\addlinespace")
        texts = zip(line.cells, widest, grid.columns, strict=True)
        body.append(_row([_cell(cell, tail, column.is_number) for cell, tail, column in texts]))
        if any(cell.interval or cell.remark for cell in line.cells):
            body.append(_below(line))
    return body


def _row(texts: list[str]) -> str:
    return " & ".join(texts) + r" \\"


def _cell(cell: Cell, widest_tail: str, is_number: bool) -> str:
    if not is_number:
        return escape_latex(cell.text)
    # The numbers of one column stand right under each other.
    tail = _tail(cell) or (rf"\hphantom{{{widest_tail}}}" if widest_tail else "")
    return escape_latex(cell.text, is_number=True) + tail


def _tail(cell: Cell) -> str:
    return "".join(f" {escape_latex(part)}" for part in (cell.spread, cell.mark) if part)


def _below(line: Line) -> str:
    """The line below, since a page is too narrow for differences and verdicts beside their intervals and remarks."""
    texts = [escape_latex(cell.interval or cell.remark, is_number=True) for cell in line.cells]
    return _row([rf"{{\scriptsize {text}}}" if text else "" for text in texts])


def _escape_pieces(pattern: re.Pattern[str], text: str, replace: Callable[[re.Match[str]], str]) -> str:
    """The text with its matches replaced and all that lies between them escaped."""
    pieces, end = [], 0
    for match in pattern.finditer(text):
        pieces += [_escape_characters(text[end : match.start()]), replace(match)]
        end = match.end()
    return "".join(pieces) + _escape_characters(text[end:])


def _escape_characters(text: str) -> str:
    return "".join(_CHARACTERS.get(character) or _plain(character) for character in text)


def _plain(character: str) -> str:
    if character.isspace():
        return " "
    # Of what is not ASCII, every pdflatex knows the accented letters of Western Europe.
    is_accented = character <= "ÿ" and unicodedata.normalize("NFD", character)[0].isalpha()
    return character if character.isascii() or is_accented else _UNKNOWN


def _subscript(text: str) -> str:
    return r"\beta" if text == "β" else text
