"""The experiment on the all-reduce: its rows, and its trials apart from those of other tables."""

import dataclasses

import pytest

from dynrcnn_ray.config.scales import SCALES, base_config
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.experiment.experiment import with_fields
from dynrcnn_ray.paper import sync
from dynrcnn_ray.paper.paper import EXPERIMENTS

SEEDS = (0, 1)


def test_rows_are_every_number_of_shards_with_and_without_the_all_reduce():
    rows = sync.rows(base_config("mini"))
    told = [tuple(row.labels.values()) for row in rows]
    group = [("1", ""), *((shards, cell) for shards in ("2", "4", "8") for cell in ("✓", ""))]
    assert told == [(name, c, *end) for name in ("paper", "released") for c in ("20", "4") for end in group]
    for row in rows:
        assert row.config
        dynamic, run, shards = row.config.dynamic, row.config.run, row.config.train.shards
        assert dynamic.dla
        assert dynamic.dsl
        assert (dynamic.convention, str(dynamic.update_interval), str(shards)) == tuple(row.labels.values())[:3]
        assert dynamic.all_reduce is (row.labels["All-reduce"] == "✓" or shards == 1)
        assert (run.num_workers, run.min_workers) == (1, 0)
        # A row of the dynamics is an update.
        assert run.log_every == dynamic.update_interval
        assert row.baseline is not None
        twin = {"All-reduce": "✓"} if shards > 1 and not dynamic.all_reduce else {"Shards": "1", "All-reduce": ""}
        assert rows[row.baseline].labels == row.labels | twin
    assert [bool(row.config and row.config.run.record_statistics) for row in rows] == [True] + [False] * 27


@pytest.mark.parametrize("scale", SCALES)
def test_no_two_rows_share_a_trial_and_other_tables_run_that_of_the_scale_itself(scale):
    base = base_config(scale)
    trials = sync.EXPERIMENT.trials(Trial(base), SEEDS)
    assert len(trials) == 2 * len(sync.rows(base))
    as_it_is = (base.dynamic, base.train)
    own = {name for name, (_, trial) in trials.items() if (trial.config.dynamic, trial.config.train) == as_it_is}
    assert len(own) == len(SEEDS)
    of_others = [experiment.trials(Trial(base), SEEDS).keys() for experiment in EXPERIMENTS]
    assert {trial_id for trial_ids in of_others for trial_id in trials.keys() & trial_ids} == own


@pytest.mark.parametrize(("batch", "numbers"), [(4, "124"), (6, "12"), (3, "1")])
def test_a_number_of_shards_that_does_not_divide_the_batch_is_left_out(batch, numbers):
    rows = sync.rows(with_fields(base_config("smoke"), "train", global_batch=batch))
    assert sorted({row.labels["Shards"] for row in rows}) == list(numbers)


def test_a_c_that_has_no_fifth_is_there_once():
    rows = sync.rows(with_fields(base_config("smoke"), "dynamic", update_interval=1))
    assert {row.labels["C"] for row in rows} == {"1"}
    assert len({tuple(row.labels.items()) for row in rows}) == len(rows) == 10


def test_what_the_rows_set_is_refused():
    scale_base = base_config("mini")
    for changes in ({"num_workers": 4}, {"log_every": 5}):
        base = dataclasses.replace(scale_base, run=dataclasses.replace(scale_base.run, **changes))
        with pytest.raises(ConfigError, match="sync sets this field itself"):
            sync.EXPERIMENT.check_base(base, scale_base)
