"""Prints an experiment's table as it is drawn."""

from collections.abc import Sequence

import pandas as pd

from dynrcnn_ray.report.drawing import Drawing
from dynrcnn_ray.report.report import DrawnReport, draw_report
from dynrcnn_ray.store.results_store import ResultStore


def print_report(
    store: ResultStore,
    experiment: str,
    figures: Sequence[Drawing],
    trials: pd.DataFrame | None = None,
    plan: pd.DataFrame | None = None,
) -> DrawnReport:
    """Draw an experiment, print its table and where its files are.

    Args:
        store: where to read and write.
        experiment: its name.
        figures: what it brings, from `figures_of`.
        trials: rows as in `schemas.TRIALS` of all trials, where they have been read before.
        plan: what to draw; None: the store's plan.

    Returns:
        What was drawn.
    """
    drawn = draw_report(store, experiment, figures, trials, plan)
    print()
    if not drawn.table:
        print("\n".join(drawn.paths) or f"{experiment}: no finished trial has recorded what it shows")
        return drawn
    print(drawn.table)
    print("\n".join(drawn.paths))
    if drawn.conclusion:
        print(f"\n{drawn.conclusion}")
    return drawn
