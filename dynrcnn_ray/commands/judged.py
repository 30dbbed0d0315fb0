"""The claims that a store can judge: the paper's, where it has rows of the paper, and its own."""

from collections.abc import Mapping, Sequence

import pandas as pd

from dynrcnn_ray.paper.findings import paper_claims
from dynrcnn_ray.paper.judge import holds_rows_of_the_paper, paper_numbers
from dynrcnn_ray.report.findings import Claim
from dynrcnn_ray.report.own_claims import own_claims, own_numbers
from dynrcnn_ray.report.report import draw_findings
from dynrcnn_ray.report.trial_numbers import NumbersOfRow
from dynrcnn_ray.store.claims import experiments_with_claims
from dynrcnn_ray.store.results_store import ResultStore


def holds_claims(store: ResultStore) -> bool:
    """Whether a store has rows that the paper's claims are about, or claims of its own."""
    return holds_rows_of_the_paper(store) or bool(experiments_with_claims(store))


def claims_with_numbers(
    store: ResultStore, trials: pd.DataFrame
) -> tuple[Sequence[Claim], Mapping[str, Mapping[int, NumbersOfRow]]]:
    """The claims, and what was measured of their rows, by experiment and row.

    Args:
        store: where to read; it must hold claims.
        trials: rows as in `schemas.TRIALS` of all trials.
    """
    own = own_claims(store)
    numbers = own_numbers(store, own, trials)
    if not holds_rows_of_the_paper(store):
        return own, numbers
    return [*paper_claims(), *own], numbers | paper_numbers(store, trials)


def print_findings(store: ResultStore, command: str, trials: pd.DataFrame) -> None:
    """Judge the claims, print the verdicts and where they are.

    Args:
        store: where to read and write; it must hold claims.
        command: what was called.
        trials: rows as in `schemas.TRIALS` of all trials.
    """
    finished_trials = trials["status"].tolist().count("finished")
    drawn = draw_findings(store, *claims_with_numbers(store, trials), command, finished_trials)
    print(f"\n{drawn.table}")
    print("\n".join(drawn.paths))
