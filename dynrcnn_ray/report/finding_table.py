"""The verdicts on claims as a Parquet file, and as cells for every renderer.

The cells are made from the file's rows alone, so that a page that is drawn again needs no claim and no trial.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from dynrcnn_ray.report.findings import RATIO, VERDICTS, Judgement
from dynrcnn_ray.report.table_cells import Cell, Column, Grid, Line, TableCells
from dynrcnn_ray.statistics.looks import LOOKS, SeedsEstimate
from dynrcnn_ray.store.parquet import to_parquet_bytes
from dynrcnn_ray.store.schemas import optional, required, versioned

FINDINGS_FILE = "tables/findings.parquet"
_TEXT, _INT, _FLOAT = pa.string(), pa.int32(), pa.float64()
_TIME = pa.timestamp("us", tz="UTC")

FINDINGS = versioned(
    [
        required("finding", _INT, "1"),
        required("experiment", _TEXT, "text"),
        required("place", _TEXT, "text"),
        required("claim", _TEXT, "text"),
        optional("line", _TEXT, "text"),
        optional("claim_hash", _TEXT, "text"),
        optional("locked_at", _TIME, "UTC"),
        optional("is_afterwards", pa.bool_(), "1"),
        optional("dropped_at", _TIME, "UTC"),
        required("verdict", _TEXT, "text"),
        required("verdict_holm", _TEXT, "text"),
        optional("p", _FLOAT, "1"),
        optional("p_holm", _FLOAT, "1"),
        required("contrast", _TEXT, "text"),
        required("metric", _TEXT, "text"),
        required("unit", _TEXT, "text"),
        optional("claimed_above", _FLOAT, "the field unit"),
        optional("claimed_below", _FLOAT, "the field unit"),
        optional("paper", _FLOAT, "the field unit"),
        optional("measured", _FLOAT, "the field unit"),
        optional("low", _FLOAT, "the field unit"),
        optional("high", _FLOAT, "the field unit"),
        optional("deviation", _FLOAT, "the field unit"),
        required("n", _INT, "seeds, or rounds of speeds"),
        optional("seeds", _INT, "seeds"),
        optional("next_look", _INT, "seeds"),
        optional("waits_for", _INT, "seed"),
        required("contrast_verdict", _TEXT, "text"),
        optional("contrast_p", _FLOAT, "1"),
        optional("chance", _FLOAT, "1"),
        optional("seeds_needed", _FLOAT, "seeds"),
        optional("scale", _TEXT, "text"),
        optional("finished_trials", _INT, "1"),
        required("command", _TEXT, "text"),
    ]
)
"""One contrast of a claim; a claim of several has a row for each, with its own number, text, verdicts and p-values in
all of them. `contrast_verdict` is that on the contrast alone. Numbers are those of the last look, which took the first
`n` of the `seeds` that have finished; `next_look` is after how many the next one is, and `waits_for` the lowest planned
seed that has not finished, where higher ones have. `low` and `high` are the 95 % interval over all looks, `deviation`
the standard deviation over the seeds. If the paper's difference were the true one, the looks would confirm the contrast
with the chance `chance`, after `seeds_needed` seeds on average. A contrast whose unit is `ratio` has ratios in all
fields of that unit, and none of the fields about looks. `finished_trials` is how many the store had then: where it has
others, its tables show what these verdicts do not know.

`line` states the claim, null where no line does; `claim_hash` and the fields after it are those of `schemas.CLAIMS`, of
a claim of one's own alone."""

_DECIMALS = {"percent": 1, "proposals per image": 1, RATIO: 2}
_NOTHING = "-"
_LOOKS_TEXT = f"{', '.join(str(look) for look in LOOKS[:-1])} and {LOOKS[-1]}"
_NOTES = (
    "Claimed is the range in which the claim says that the difference lies.",
    f"Looks are after {_LOOKS_TEXT} seeds that have finished all rows of a contrast, the lowest first; a planned seed "
    "that has not finished holds them up. Add seeds upwards until a claim is decided: interval and verdicts hold for "
    "all looks together, and what is decided stays so.",
    "Measured is the mean over the n seeds of the last look, paired by seed; in brackets its 95 % interval: what those "
    "of all looks so far have in common (paired t-tests).",
    "Confirmed: the whole interval lies in the claimed range; contradicted: the whole interval lies outside; "
    "undecided: neither, or no look yet, or equal numbers at all seeds, which tell nothing of how far others spread.",
    "A claim of several contrasts is confirmed if each of them is, and contradicted if one of them is, corrected for "
    "their number.",
    "After Holm: the verdict when all claims are tested together, so that the chance of even one wrong verdict is at "
    "most 5 %.",
    f"Chance: how often {LOOKS[-1]} seeds would confirm the contrast if the paper's difference were the true one, from "
    "the measured spread; in brackets how many seeds that would take on average.",
)
_OLD_NOTE = "These verdicts are an earlier release's, without looks: `findings` judges again."

_NOTES_ON_LOCKS = (
    "Locked (UTC): when a claim of one's own was written down, right before the first trial of the command that stated "
    "it; the hash is of its line and its rows' configurations.",
    "Added afterwards: trials of all rows of one of its differences had begun by then, so how it comes out could be "
    "known.",
    "Dropped: since then the experiment states it no more; what was locked stays and is judged.",
)


def findings_parquet(judgements: Sequence[Judgement], command: str, finished_trials: int) -> bytes:
    """The verdicts as a Parquet file's content.

    Args:
        judgements: from `judge`.
        command: what was called.
        finished_trials: how many the store had.
    """
    told = {"command": command, "finished_trials": finished_trials}
    rows = [row | told for index, judgement in enumerate(judgements) for row in _rows(index, judgement)]
    return to_parquet_bytes(pa.Table.from_pylist(rows, schema=FINDINGS), FINDINGS_FILE)


def finding_cells(rows: Sequence[Mapping[str, Any]]) -> TableCells:
    """How many claims have which verdict, then the claims of each table and figure.

    Args:
        rows: as in `FINDINGS`, in the file's order; at least one.
    """
    places = [(place, list(lines)) for place, lines in itertools.groupby(rows, key=lambda row: row["place"])]
    scales = ", ".join(dict.fromkeys(row["scale"] for row in rows if row["scale"]))
    missing = dict.fromkeys(row["experiment"] for row in rows if not row["n"])
    is_old = any(row["seeds"] is None and row["unit"] != RATIO for row in rows)
    notes = [
        *((_OLD_NOTE,) if is_old else _NOTES),
        *(_NOTES_ON_LOCKS if any(map(_is_own, rows)) else ()),
        *([f"Not measured, or not all of it: {', '.join(missing)}."] if missing else []),
    ]
    return TableCells(
        experiment="findings",
        reference="Findings" if any(map(_is_own, rows)) else "Findings of the paper",
        run=f"Scale {scales}" if scales else "Nothing measured",
        command=rows[0]["command"],
        notes=tuple(notes),
        grids=(_counts(places), *(grid for place, lines in places for grid in _grids_of(place, lines))),
    )


def headline(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many claims have which verdict, in a sentence."""
    counts, holm = _count(rows, "verdict"), _count(rows, "verdict_holm")
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
    of_paper = "" if any(map(_is_own, rows)) else " of the paper"
    total = sum(counts.values())
    return (
        f"Of {total} claim{'s' if total != 1 else ''}{of_paper}: {told}; after Holm's correction "
        f"{holm['confirmed']} confirmed and {holm['contradicted']} contradicted"
    )


def remarks_on_lock(row: Mapping[str, Any]) -> list[str]:
    """What is to be known of when a claim of one's own was locked."""
    told = {"added afterwards": row["is_afterwards"], "dropped": row["dropped_at"]}
    return [remark for remark, is_so in told.items() if is_so]


def _rows(index: int, judgement: Judgement) -> list[dict[str, Any]]:
    stated = judgement.claim
    claim = {
        "finding": index,
        "experiment": stated.experiment,
        "place": stated.place,
        "claim": stated.words,
        "line": stated.line or None,
        "claim_hash": stated.lock and stated.lock.hash,
        "locked_at": stated.lock and stated.lock.locked_at,
        "is_afterwards": stated.lock and stated.lock.is_afterwards,
        "dropped_at": stated.lock and stated.lock.dropped_at,
        "verdict": judgement.verdict,
        "verdict_holm": judgement.verdict_holm,
        "p": _known(judgement.p),
        "p_holm": _known(judgement.p_holm),
        "scale": judgement.scale or None,
    }
    rows = []
    for part in judgement.parts:
        contrast, estimate = part.contrast, part.estimate
        shown = math.exp if contrast.unit == RATIO else float
        low, high = estimate.interval()
        outlook = contrast.outlook(estimate.deviation)
        rows.append(
            claim
            | {
                "contrast": contrast.text,
                "metric": contrast.metric,
                "unit": contrast.unit,
                "claimed_above": _known(contrast.above),
                "claimed_below": _known(contrast.below),
                "paper": _known(shown(contrast.paper)),
                "measured": _known(shown(estimate.mean)),
                "low": _known(shown(low)),
                "high": _known(shown(high)),
                "deviation": _known(estimate.deviation),
                "n": estimate.n,
                "seeds": estimate.seeds if isinstance(estimate, SeedsEstimate) else None,
                "next_look": part.next_look,
                "waits_for": part.waits_for,
                "contrast_verdict": part.verdict,
                "contrast_p": _known(part.p),
                "chance": outlook and outlook.chance,
                "seeds_needed": outlook and outlook.seeds,
            }
        )
    return rows


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _count(rows: Sequence[Mapping[str, Any]], field: str) -> dict[str, int]:
    verdicts = list({row["finding"]: row[field] for row in rows}.values())
    return {verdict: verdicts.count(verdict) for verdict in VERDICTS}


def _counts(places: Sequence[tuple[str, list[Mapping[str, Any]]]]) -> Grid:
    everything = [row for _, rows in places for row in rows]
    heads = ["claims", *VERDICTS, "confirmed after Holm", "contradicted after Holm"]
    lines = []
    for place, rows in [*places, ("all", everything)]:
        counts, holm = _count(rows, "verdict"), _count(rows, "verdict_holm")
        numbers = [sum(counts.values()), *counts.values(), holm["confirmed"], holm["contradicted"]]
        cells = (Cell(str(number) if number else _NOTHING) for number in numbers)
        lines.append(Line((Cell(place.partition(",")[0]), *cells)))
    columns = (Column("", is_number=False), *(Column(head) for head in heads))
    return Grid("counts", headline(everything), columns, tuple(lines))


def _grids_of(place: str, rows: Sequence[Mapping[str, Any]]) -> list[Grid]:
    return [_claims(place, rows), *([_locks(place, rows)] if all(map(_is_own, rows)) else [])]


def _claims(place: str, rows: Sequence[Mapping[str, Any]]) -> Grid:
    texts = ("metric", "claimed")
    columns = (
        Column("claim", is_number=False, is_sentence=True),
        *(Column(text, is_number=False) for text in texts),
        *(Column(number) for number in ("paper", "measured", "n", "chance")),
        *(Column(text, is_number=False) for text in ("verdict", "after Holm")),
    )
    lines: list[Line] = []
    for _, parts in itertools.groupby(rows, key=lambda row: row["finding"]):
        first, *others = parts
        holm = _verdict(first["verdict_holm"])
        if not others:
            verdict = _verdict(first["verdict"], _looks_left([first]) or _hidden(first))
            lines.append(Line((_claim(first), *_numbers(first), verdict, holm)))
            continue
        verdict = _verdict(first["verdict"], _looks_left([first, *others]))
        lines.append(Line((_claim(first), *(Cell() for _ in _numbers(first)), verdict, holm)))
        for part in (first, *others):
            name, verdict = Cell(f"· {part['contrast']}"), _verdict(part["contrast_verdict"], _hidden(part))
            lines.append(Line((name, *_numbers(part), verdict, Cell()), starts_row=False))
    return Grid(f"claims-{_name(place)}", place, columns, tuple(lines))


def _locks(place: str, rows: Sequence[Mapping[str, Any]]) -> Grid:
    """When the claims of one's own were written down, each in a line."""
    of_claims = {row["finding"]: row for row in rows}
    lines = [
        Line(
            (
                Cell(row["line"]),
                Cell(_minute(row["locked_at"])),
                Cell(_minute(row["dropped_at"])),
                Cell(row["claim_hash"]),
            )
        )
        for row in of_claims.values()
    ]
    texts = (Column(text, is_number=False) for text in ("locked", "dropped", "hash"))
    columns = (Column("claim", is_number=False, is_sentence=True), *texts)
    return Grid(f"locks-{_name(place)}", f"{place}. When its claims were locked", columns, tuple(lines))


def _minute(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M}" if time else _NOTHING


def _name(place: str) -> str:
    return place.partition(",")[0].lower().replace(" ", "")


def _is_own(row: Mapping[str, Any]) -> bool:
    """Whether a row is of a claim of one's own; the paper's have no date."""
    return row["locked_at"] is not None


def _claim(row: Mapping[str, Any]) -> Cell:
    """What is claimed; of one's own also the line that was locked, and what is to be known of the lock."""
    if not _is_own(row):
        return Cell(row["claim"])
    marks = [*([row["line"]] if row["claim"] != row["line"] else []), *remarks_on_lock(row)]
    return Cell(f"{row['claim']} ({'; '.join(marks)})" if marks else row["claim"])


def _numbers(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    """Metric, claimed range, the paper's difference, the measured one, n, and what the looks promise."""
    low, high, seeds = row["low"], row["high"], row["seeds"]
    interval = "" if low is None else f"[{_shown(low, row)}, {_shown(high, row)}]"
    chance, needed = row["chance"], row["seeds_needed"]
    return (
        Cell(row["metric"]),
        Cell(_claimed(row)),
        Cell(_shown(row["paper"], row)),
        Cell(_shown(row["measured"], row), interval=interval),
        Cell(str(row["n"]) if seeds in (None, row["n"]) else f"{row['n']} of {seeds}"),
        Cell(_NOTHING) if chance is None else Cell(f"{100 * chance:.0f} %", remark=f"({needed:.0f} seeds)"),
    )


def _looks_left(rows: Sequence[Mapping[str, Any]]) -> str:
    """After how many seeds a contrast of a claim is looked at again, or which seed first; empty if no look is left."""
    left = [row for row in rows if row["next_look"] is not None]
    if not left:
        return ""
    waits_for = [row["waits_for"] for row in left if row["waits_for"] is not None]
    return (
        f"(waits for seed {min(waits_for)})"
        if waits_for
        else f"(next look at {min(row['next_look'] for row in left)} seeds)"
    )


def _hidden(row: Mapping[str, Any]) -> str:
    """The largest difference that an undecided contrast may still have; empty before the last look."""
    if row["seeds"] is None or row["next_look"] is not None or row["low"] is None:
        return ""
    return f"(up to {_shown(max(row['low'], row['high'], key=abs), row)} may hide)"


def _claimed(row: Mapping[str, Any]) -> str:
    above, below = row["claimed_above"], row["claimed_below"]
    if above is not None and below is not None:
        return f"within ±{below:g}" if above == -below else f"{above:+g} to {below:+g}"
    sign, bound = (">", above) if above is not None else ("<", below)
    return f"{sign} {bound:+g}" if bound and row["unit"] != RATIO else f"{sign} {bound:g}"


def _shown(value: float | None, row: Mapping[str, Any]) -> str:
    if value is None:
        return _NOTHING
    decimals = _DECIMALS.get(row["unit"], 3)
    if row["unit"] == RATIO:
        return f"{value:.{decimals}f}"
    # Adding zero turns a rounded -0.0 into +0.0.
    return f"{round(value, decimals) + 0.0:+.{decimals}f}"


def _verdict(verdict: str, if_undecided: str = "") -> Cell:
    remark = if_undecided if verdict == "undecided" else ""
    return Cell(verdict, remark=remark, verdict=verdict.replace(" ", "-"))
