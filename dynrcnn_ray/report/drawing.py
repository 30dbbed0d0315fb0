"""How a figure is drawn from a store."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from dynrcnn_ray.store.results_store import ResultStore


@dataclass(frozen=True)
class Drawing:
    """One figure.

    Attributes:
        name: of its files below `figures/`.
        draw: makes it of a store, a plan (rows as in `schemas.PLAN`, of one experiment) and the ids of the plan's
            finished trials; None if no finished trial has recorded what it shows.
    """

    name: str
    draw: Callable[[ResultStore, pd.DataFrame, set[str]], Figure | None]


def of_dynamics(
    name: str, draw: Callable[[pd.DataFrame, pd.DataFrame], Figure | None], columns: Sequence[str]
) -> Drawing:
    """A figure of a plan and some columns of `schemas.DYNAMICS`."""

    def from_store(store: ResultStore, plan: pd.DataFrame, finished: set[str]) -> Figure | None:
        recorded = store.dynamics(finished, list(columns))
        return draw(plan, recorded) if len(recorded) else None

    return Drawing(name, from_store)


def of_proposals(name: str, draw: Callable[[pd.DataFrame, pd.DataFrame], Figure | None]) -> Drawing:
    """A figure of a plan and rows as in `schemas.PROPOSALS`."""

    def from_store(store: ResultStore, plan: pd.DataFrame, finished: set[str]) -> Figure | None:
        recorded = store.proposals(finished)
        return draw(plan, recorded) if len(recorded) else None

    return Drawing(name, from_store)
