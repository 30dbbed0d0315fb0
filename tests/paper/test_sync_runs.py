"""Two shards with and without the all-reduce, and one beside them: from trainings to the table and the figures."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.experiment.experiment import Experiment, Row
from dynrcnn_ray.paper import sync
from dynrcnn_ray.paper.drawn import figures_of_stored
from dynrcnn_ray.report.report import draw_report
from dynrcnn_ray.store.results_store import ResultStore
from tests.prepared import prepared
from tests.trained_store import train_into

pytestmark = pytest.mark.slow


def first_rows(base: TrialConfig) -> list[Row]:
    """One shard, then two with and without the all-reduce."""
    return sync.rows(base)[:3]


@pytest.fixture(scope="module")
def drawn(smoke: TrialConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[ResultStore, Experiment]:
    """The three trials, each on one worker."""
    folder = tmp_path_factory.mktemp("sync")
    experiment = dataclasses.replace(sync.EXPERIMENT, rows=first_rows)
    for _, trial in experiment.trials(prepared(smoke), (0,)).values():
        train_into(folder / "store", trial)
    store = ResultStore.open(folder / "store")
    store.write_plan("sync", experiment.plan(prepared(smoke), (0,), "a command"))
    return store, experiment


def test_with_the_all_reduce_shards_follow_the_same_values_and_without_it_their_own(drawn, smoke):
    store, experiment = drawn
    one, shared, alone = experiment.trials(prepared(smoke), (0,))
    assert store.finished_trials() == {one, shared, alone}
    for trial_id, differ in ((shared, False), (alone, True)):
        course = store.dynamics([trial_id]).sort_values("step")
        for name in ("shard_T_now", "shard_beta_now"):
            first, *after_updates = course[name].tolist()
            assert len(first) == 2
            # In the step of a first update nothing has been updated yet.
            assert first[0] == first[1]
            assert any(values[0] != values[1] for values in after_updates) is differ, name
    assert {len(values) for values in store.dynamics([one])["shard_T_now"]} == {1}


def test_the_table_and_both_figures_come_from_the_store(drawn):
    store, _ = drawn
    report = draw_report(store, "sync", figures_of_stored("sync"))

    names = [Path(path).name for path in report.paths]
    figures = [f"sync_{name}.{kind}" for name in ("shards", "simulated") for kind in ("png", "svg")]
    assert names == ["sync.parquet", "sync.md", "sync.tex", *figures]
    table = pd.read_parquet(report.paths[0])
    assert table["apart_T_now"].tolist()[:2] == [0, 0]
    assert table["apart_T_now"][2] > 0
    assert table["from_baseline_T_now"].isna().tolist() == [True, False, False]
    assert "Without it they lay apart by" in report.table
