"""The claims of one's own that a store has locked, with what it has measured of their rows."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.report.claim_lines import read_line
from dynrcnn_ray.report.claim_rows import ClaimRow, RowNames
from dynrcnn_ray.report.findings import Claim, Contrast, Lock, measures_of
from dynrcnn_ray.report.trial_numbers import NumbersOfRow, read_numbers
from dynrcnn_ray.store.claims import experiments_with_claims, read_claims
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.schemas import TRIALS


def own_claims(store: ResultStore) -> list[Claim]:
    """All claims that a store has locked, by experiment.

    A row is known by its trials, and by whether it has their boxes' numbers or their masks', whatever it is called in
    the table by now. One that is no row of the table any more has a negative place, and counts as not measured; so does
    one of two rows of the same trials if an earlier release has not said which.

    Raises:
        StoreError: the store cannot be read, or a claim is of another release.
    """
    return [
        _claim(store, row, store.plan(name))
        for name in experiments_with_claims(store)
        for row in read_claims(store, name)
    ]


def own_numbers(
    store: ResultStore, claims: list[Claim], trials: pd.DataFrame | None = None
) -> dict[str, dict[int, NumbersOfRow]]:
    """What a store has measured of the rows that claims are about, by experiment and row.

    Args:
        store: where to read.
        claims: from `own_claims`.
        trials: rows as in `schemas.TRIALS` of all trials, where they have been read before.

    Raises:
        StoreError: the store cannot be read.
    """
    rows: dict[str, dict[int, Mapping[str, float]]] = {}
    measures = measures_of(claims)
    for claim in claims:
        if claim.experiment not in rows:
            rows[claim.experiment] = {row: known.reported for row, known in _rows(store.plan(claim.experiment)).items()}
        for term in (term for contrast in claim.contrasts for term in contrast.terms):
            rows[claim.experiment].setdefault(term.row, {})
    # Of very many trials only what their tables show has been read.
    needed = set(TRIALS.names).intersection(*[set().union(*measures.values())])
    is_read = trials is not None and needed <= set(trials.columns)
    return read_numbers(store, rows, measures, trials if is_read else None)


def _claim(store: ResultStore, locked: Mapping[str, Any], plan: pd.DataFrame | None) -> Claim:
    place = locked["experiment"]
    if plan is not None and len(plan):
        place = f"{place}, {plan['anchor'].iloc[0]}. {plan['title'].iloc[0]}"
    lock = Lock(locked["hash"], locked["locked_at"], locked["is_afterwards"], locked["dropped_at"])
    contrasts = _contrasts(store, locked, plan)
    return Claim(locked["experiment"], place, locked["words"] or locked["line"], contrasts, locked["line"], lock)


def _contrasts(store: ResultStore, locked: Mapping[str, Any], plan: pd.DataFrame | None) -> tuple[Contrast, ...]:
    known = _rows(plan)
    of_trial: dict[str, dict[str, int]] = {}
    for line in [] if plan is None else plan.to_dict("records"):
        of_trial.setdefault(line["trial_id"], {})[line["metric_prefix"] or ""] = int(line["row"])
    missing: dict[tuple[str, str | None], int] = {}
    places: dict[str, int] = {}
    for text, ids in locked["rows"].items():
        prefix = locked["metric_prefixes"] and locked["metric_prefixes"][text]
        found = [_row_of(of_trial[trial_id], prefix) for trial_id in ids if trial_id in of_trial]
        row = next((row for row in found if row is not None), None)
        places[text] = missing.setdefault((ids[0], prefix), -1 - len(missing)) if row is None else row
    rows = {place: known.get(place, ClaimRow({}, {})) for place in places.values()}
    try:
        return read_line(locked["line"], RowNames.of_references(rows, places)).contrasts
    except ConfigError as error:
        path = store.files.describe_path("claims")
        raise StoreError(f"{path}: a claim of {locked['experiment']!r} is of another release: {error}") from None


def _row_of(rows: Mapping[str, int], prefix: str | None) -> int | None:
    """That of a trial's rows which has its numbers with a prefix; None if none has, or the prefix is not known."""
    if prefix is None:
        return next(iter(rows.values())) if len(rows) == 1 else None
    return rows.get(prefix)


def _rows(plan: pd.DataFrame | None) -> dict[int, ClaimRow]:
    return {
        int(line["row"]): ClaimRow({}, dict(line["reported"]), line["metric_prefix"] or "")
        for line in ([] if plan is None else plan.to_dict("records"))
    }
