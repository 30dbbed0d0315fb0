"""The benchmarks as a Markdown table."""

from collections.abc import Mapping, Sequence
from typing import Any

from dynrcnn_ray.report.table_text import simple_markdown

_HEADER = ("what", "compared with", "ratio", "quartiles", "interval", "must be", "reached", "medians", "rounds")
_REACHED = {True: "yes", False: "no"}


def benchmarks_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of `schema.BENCHMARKS` for people: the ratio first, then the medians, notes below."""
    table = simple_markdown(_HEADER, [_cells(row) for row in rows])
    machines = sorted({f"{row['hardware']}, commit {row['commit']}" for row in rows})
    notes = [f"- {row['what']}: {row['note']}" for row in rows if row["note"]]
    parts = ["**Benchmarks**", table, _LEGEND, "Measured on: " + "; ".join(machines) + ".", "\n".join(notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


_LEGEND = (
    "Both sides ran in turn, A B, then B A. The ratio is the median over the rounds of the first over the second, with "
    'its quartiles; the interval holds the true median with 95 % (below six rounds: all rounds). "reached" is said '
    'where the whole interval is on one side of the limit, and is "undecided" otherwise.'
)


def row_line(row: Mapping[str, Any]) -> str:
    """One row as a line of progress."""
    what, compared_with, ratio, _, interval, must, reached, medians, _ = _cells(row)
    against = f" against {compared_with}: {ratio} ({interval})" if compared_with else ":"
    demanded = f"; must be {must}: {reached}" if must else ""
    return f"{what}{against} {medians}{demanded}"


def _cells(row: Mapping[str, Any]) -> list[str]:
    is_compared = row.get("ratio") is not None
    demanded = row.get("must") or ""
    medians = number(row["median_a"]) + (f" / {number(row['median_b'])}" if is_compared else "")
    return [
        row["what"],
        row.get("compared_with") or "",
        f"{number(row['ratio'])} x" if is_compared else "",
        _range(row["ratio_lower_quartile"], row["ratio_upper_quartile"]) if is_compared else "",
        _range(row["interval_low"], row["interval_high"]) if is_compared else "",
        demanded,
        _REACHED.get(row["reached"], "undecided") if demanded else "",
        f"{medians} {row['unit']}",
        str(row["rounds"]),
    ]


def number(value: float) -> str:
    """Four significant digits; small ones keep theirs."""
    if value == 0 or 0.01 <= abs(value) < 10000:
        return f"{value:.4g}" if abs(value) >= 0.1 or value == 0 else f"{value:.3f}"
    return f"{value:.0f}" if abs(value) >= 10000 else f"{value:.2g}"


def _range(low: float, high: float) -> str:
    return f"{number(low)} to {number(high)}"
