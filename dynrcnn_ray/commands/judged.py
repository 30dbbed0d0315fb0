"""The claims that a store can judge: the paper's, where it has rows of the paper, and its own."""

import pandas as pd

from dynrcnn_ray.paper.findings import paper_claims
from dynrcnn_ray.paper.judge import holds_rows_of_the_paper, paper_numbers
from dynrcnn_ray.report.own_claims import own_claims, own_numbers
from dynrcnn_ray.report.report import draw_findings
from dynrcnn_ray.store.claims import experiments_with_claims
from dynrcnn_ray.store.results_store import ResultStore


def holds_claims(store: ResultStore) -> bool:
    """Whether a store has rows that the paper's claims are about, or claims of its own."""
    return holds_rows_of_the_paper(store) or bool(experiments_with_claims(store))


def print_findings(store: ResultStore, command: str, trials: pd.DataFrame) -> None:
    """Judge the claims, print the verdicts and where they are.

    Args:
        store: where to read and write; it must hold claims.
        command: what was called.
        trials: rows as in `schemas.TRIALS` of all trials.
    """
    own = own_claims(store)
    claims, numbers = own, own_numbers(store, own, trials)
    if holds_rows_of_the_paper(store):
        claims, numbers = [*paper_claims(), *own], numbers | paper_numbers(store, trials)
    drawn = draw_findings(store, claims, numbers, command)
    print(f"\n{drawn.table}")
    print("\n".join(drawn.paths))
