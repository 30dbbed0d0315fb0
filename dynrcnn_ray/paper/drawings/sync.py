"""The figures of the experiment `sync`."""

import pandas as pd
from matplotlib.figure import Figure

from dynrcnn_ray.paper.drawings.sync_shards import draw_shards
from dynrcnn_ray.paper.drawings.sync_simulated import draw_simulated_shards
from dynrcnn_ray.paper.simulation import Records, records_of
from dynrcnn_ray.report.drawing import Drawing, of_dynamics
from dynrcnn_ray.report.drift import DYNAMICS_COLUMNS, with_drift
from dynrcnn_ray.report.drift_columns import ALL_REDUCE, SHARDS
from dynrcnn_ray.store.results_store import ResultStore


def _simulated_shards(store: ResultStore, plan: pd.DataFrame, finished: set[str]) -> Figure | None:
    """From the first finished trial of the plan that recorded its images' statistics."""
    for line in plan.loc[plan["trial_id"].isin(list(finished)), :].to_dict("records"):
        if found := recorded(store, line["trial_id"]):
            records, interval = found
            measured = _measured_spreads(store, plan, finished)
            return draw_simulated_shards(plan, records, interval, int(line["seed"]), measured)
    return None


def recorded(store: ResultStore, trial_id: str) -> tuple[Records, int] | None:
    """What a finished trial's images measured, and its C; None if the trial did not record it."""
    statistics = store.statistics([trial_id])
    if statistics.empty:
        return None
    [trial] = store.trials([trial_id], ["trial_id", "config"]).to_dict("records")
    dynamic = store.trial_of(trial).config.dynamic
    return records_of(statistics, dynamic.initial_iou, dynamic.initial_beta), dynamic.update_interval


def _measured_spreads(store: ResultStore, plan: pd.DataFrame, finished: set[str]) -> pd.DataFrame:
    """A row for each finished trial in which each shard follows its own images by the convention that is simulated."""
    lines = [dict(line["labels"]) | {"trial_id": line["trial_id"]} for line in plan.to_dict("records")]
    rows = pd.DataFrame(
        {"trial_id": line["trial_id"], "C": int(line["C"]), "shards": int(line[SHARDS])}
        for line in lines
        if line["trial_id"] in finished and line["Convention"] == "paper" and not line[ALL_REDUCE]
    )
    return with_drift(plan, rows, store.dynamics(rows["trial_id"], DYNAMICS_COLUMNS)) if len(rows) else rows


FIGURES = (
    of_dynamics("sync_shards", draw_shards, DYNAMICS_COLUMNS),
    Drawing("sync_simulated", _simulated_shards),
)
