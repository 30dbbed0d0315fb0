"""The figures of the experiment `sync`."""

import pandas as pd
from matplotlib.figure import Figure

from dynrcnn_ray.paper.drawings.sync_shards import draw_shards
from dynrcnn_ray.paper.drawings.sync_simulated import draw_simulated_shards
from dynrcnn_ray.paper.simulation import records_of
from dynrcnn_ray.report.drawing import Drawing, of_dynamics
from dynrcnn_ray.report.drift import DYNAMICS_COLUMNS
from dynrcnn_ray.store.results_store import ResultStore


def _simulated_shards(store: ResultStore, plan: pd.DataFrame, finished: set[str]) -> Figure | None:
    """From the first finished trial of the plan that recorded its images' statistics."""
    for line in plan.loc[plan["trial_id"].isin(list(finished)), :].to_dict("records"):
        statistics = store.statistics([line["trial_id"]])
        if len(statistics):
            [trial] = store.trials([line["trial_id"]], ["trial_id", "config"]).to_dict("records")
            dynamic = store.trial_of(trial).config.dynamic
            records = records_of(statistics, dynamic.initial_iou, dynamic.initial_beta)
            return draw_simulated_shards(plan, records, dynamic.update_interval, int(line["seed"]))
    return None


FIGURES = (
    of_dynamics("sync_shards", draw_shards, DYNAMICS_COLUMNS),
    Drawing("sync_simulated", _simulated_shards),
)
