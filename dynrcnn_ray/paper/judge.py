"""What a store has measured of the rows that the paper's claims are about."""

import pandas as pd

from dynrcnn_ray.paper import table7
from dynrcnn_ray.paper.findings import paper_claims, paper_rows
from dynrcnn_ray.paper.speed_table import read_speeds
from dynrcnn_ray.report.findings import measures_of
from dynrcnn_ray.report.trial_numbers import NumbersOfRow, numbers_of_speed, read_numbers
from dynrcnn_ray.store.results_store import ResultStore


def holds_rows_of_the_paper(store: ResultStore) -> bool:
    """Whether a store has a table or figure of the paper that its claims are about."""
    return bool(paper_rows().keys() & set(store.experiments()) or read_speeds(store))


def paper_numbers(store: ResultStore, trials: pd.DataFrame | None = None) -> dict[str, dict[int, NumbersOfRow]]:
    """What a store has measured of the rows that the claims are about, by experiment and row.

    Args:
        store: where to read.
        trials: rows as in `schemas.TRIALS` of all trials, where they have been read before.
    """
    numbers = read_numbers(store, paper_rows(), measures_of(paper_claims()), trials)
    timed = zip(numbers[table7.NAME], read_speeds(store), strict=False)
    numbers[table7.NAME] |= {row: numbers_of_speed(line) for row, line in timed}
    return numbers
