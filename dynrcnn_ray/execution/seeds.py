"""How many seeds a table needs, told before more of them run: from what the store's own table has measured."""

import math
from collections.abc import Sequence

import pandas as pd

from dynrcnn_ray.experiment.experiment import Experiment
from dynrcnn_ray.report.report import is_figure, table_of
from dynrcnn_ray.report.table_cells import seeds_grid, seeds_text
from dynrcnn_ray.report.table_text import grid_to_text
from dynrcnn_ray.report.tables import trial_columns
from dynrcnn_ray.store.results_store import ResultStore


def print_seeds(store: ResultStore, experiment: Experiment) -> None:
    """What the seeds of the store's table tell from zero, and how many the paper's differences need.

    Says nothing where no row shares two finished seeds with its baseline.
    """
    found = _stored_table(store, experiment)
    grid = seeds_grid(*found) if found else None
    if found and grid:
        _, plan = found
        print(f"\nMeasured in {_place(store)} by: {plan['command'].iloc[0]}\n{grid_to_text(grid)}")


def print_seeds_of_all(store: ResultStore, experiments: Sequence[Experiment]) -> None:
    """The seeds that the paper's differences in AP need, the most of each table with two seeds or more."""
    needed = {}
    for experiment in experiments:
        table, _ = _stored_table(store, experiment) or (pd.DataFrame(), None)
        seeds = [row["delta_AP_seeds"] for row in table.to_dict("records") if "delta_AP_seeds" in row]
        known = [number for number in seeds if not math.isnan(number)]
        if known:
            needed[experiment.name] = seeds_text(max(known))
    if needed:
        told = ", ".join(f"{name} {seeds}" for name, seeds in needed.items())
        print(
            f"\nSeeds that tell all the paper's differences in AP from zero, by the spread in {_place(store)}: {told}."
        )
        print("The dry run of each table says more.")


def _stored_table(store: ResultStore, experiment: Experiment) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    plan = store.plan(experiment.name)
    if plan is None or plan.empty or is_figure(plan):
        return None
    return table_of(store, plan, store.trials(plan["trial_id"].dropna(), trial_columns(plan))), plan


def _place(store: ResultStore) -> str:
    return store.files.place
