"""A command's tables as they fill: each is shown whenever a trial completes one of its rows."""

import dataclasses
from collections.abc import Collection

from dynrcnn_ray.config.errors import one_line
from dynrcnn_ray.execution.planned import Planned
from dynrcnn_ray.report.report import table_of
from dynrcnn_ray.report.table_cells import make_cells
from dynrcnn_ray.report.table_text import grid_to_text
from dynrcnn_ray.report.tables import trial_columns
from dynrcnn_ray.store.results_store import ResultStore


class TablesSoFar:
    """Knows which trials the rows still wait for."""

    def __init__(self, planned: Planned, missing: Collection[str]) -> None:
        """Look at what a command plans.

        Args:
            planned: its tables and figures. A figure, and a table of one row, are shown at the end alone.
            missing: ids of the trials that it trains.
        """
        self._store = planned.store
        self._missing = set(missing)
        self._waited_for: dict[str, list[set[str]]] = {}
        for name, experiment in planned.experiments.items():
            rows: dict[int, set[str]] = {}
            for line in experiment.plan(planned.base, planned.seeds[experiment.name], planned.command):
                if line["trial_id"]:
                    rows.setdefault(line["row"], set()).add(line["trial_id"])
            if experiment.metrics and len(rows) > 1:
                self._waited_for[name] = [row & self._missing for row in rows.values()]

    def after(self, trial_id: str) -> list[str]:
        """The tables of which a trial that has just finished completes a row; none after the last, as all then follow.

        Args:
            trial_id: of the trial.
        """
        self._missing.discard(trial_id)
        shown = []
        for name, rows in self._waited_for.items():
            waiting = [row for row in rows if trial_id in row]
            for row in waiting:
                row.discard(trial_id)
            if self._missing and not all(waiting):
                shown.append(name)
        return [_drawn(self._store, name) for name in shown]


def _drawn(store: ResultStore, name: str) -> str:
    try:
        plan = store.plan(name)
        if plan is None:
            return ""
        rows = store.trials_so_far(plan["trial_id"].dropna(), trial_columns(plan))
        cells = make_cells(table_of(store, plan, rows), plan)
    except Exception as error:  # Whatever drawing raises, the grid goes on, and all is drawn again at its end.
        return f"The table so far cannot be drawn: {one_line(error)}"
    grid = dataclasses.replace(cells.grids[0], title=f"{cells.reference}. {cells.grids[0].title}, so far")
    return f"\n{grid_to_text(grid)}\n"
