"""The paper's claims judged by what a store has measured."""

import pandas as pd

from dynrcnn_ray.paper.findings import paper_findings, paper_rows
from dynrcnn_ray.report.report import draw_findings
from dynrcnn_ray.report.speed_table import SPEED_FILE
from dynrcnn_ray.store.results_store import ResultStore


def holds_rows_of_the_paper(store: ResultStore) -> bool:
    """Whether a store has a table or figure of the paper that its claims are about."""
    return bool(paper_rows().keys() & set(store.experiments())) or store.files.read_bytes(SPEED_FILE) is not None


def print_findings(store: ResultStore, command: str, trials: pd.DataFrame) -> None:
    """Judge the paper's claims, print the verdicts and where they are."""
    drawn = draw_findings(store, paper_findings(), paper_rows(), command, trials)
    print(f"\n{drawn.table}")
    print("\n".join(drawn.paths))
