"""Result tables as HTML."""

from html import escape

from dynrcnn_ray.results.table_cells import Grid, TableCells


def table_html(cells: TableCells) -> str:
    """The table, its notes, and the grids below it."""
    main, *others = cells.grids
    parts = [grid_html(main), f'<p class="soft">{escape(" ".join(cells.notes))}</p>']
    for grid in others:
        head, _, rest = grid.title.partition(" (")
        parts.append(f"<h3>{escape(head)}</h3>")
        if rest:
            parts.append(f'<p class="soft">({escape(rest)}:</p>')
        parts.append(grid_html(grid))
    return "\n".join(parts)


def grid_html(grid: Grid) -> str:
    """One grid in a box of its own that scrolls sideways; the paper's lines are tinted."""
    kinds = ["number" if column.is_number else "sentence" if column.is_sentence else "text" for column in grid.columns]
    head = "".join(
        f'<th scope="col" class="{kind}">{escape(column.title)}</th>'
        for column, kind in zip(grid.columns, kinds, strict=True)
    )
    body = []
    for line in grid.lines:
        classes = " ".join(["of-paper"] * line.is_paper + ["starts"] * line.starts_row)
        cells = "".join(
            f'<td class="{" ".join([kind, *cell.verdict.split()])}">{escape(cell.text)}'
            + (f' <span class="addition">{escape(cell.addition)}</span>' if cell.addition else "")
            + "</td>"
            for cell, kind in zip(line.cells, kinds, strict=True)
        )
        body.append(f'<tr class="{classes}">{cells}</tr>')
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="scroll {grid.name}" tabindex="0">{table}</div>'
