"""The table is shown while a grid runs, whenever a row of it is complete."""

from pathlib import Path

import pytest

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.stored import to_stored
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.execution.planned import Planned
from dynrcnn_ray.execution.tables_so_far import TablesSoFar
from dynrcnn_ray.execution.train_body import single_trial
from dynrcnn_ray.paper import table3, table4
from dynrcnn_ray.store.results_store import ResultStore
from tests.stored_table import trial_row

BASE = Trial(base_config("smoke"))


def planned_in(folder: Path, seeds: tuple[int, ...], *experiments) -> tuple[Planned, list[str]]:
    """Some experiments' plans, and their trials in the order in which they run."""
    store = ResultStore.open(folder)
    by_name = {experiment.name: experiment for experiment in experiments}
    planned = Planned(store, by_name, BASE, dict.fromkeys(by_name, seeds), "dynrcnn table3")
    planned.write()
    return planned, list(dict.fromkeys(trial for each in experiments for trial in each.trials(BASE, seeds)))


def finish(planned: Planned, trial_id: str, average_precision: float) -> None:
    metrics = {name: average_precision for name in ("AP60", "AP70", "AP80")}
    row = trial_row(trial_id, AP=average_precision, scale="smoke", config=to_stored(BASE), **metrics)
    planned.store.write_trial(row)


def test_each_row_but_the_last_one_shows_the_table(tmp_path: Path):
    planned, trials = planned_in(tmp_path, (0,), table3.EXPERIMENT)
    tables = TablesSoFar(planned, trials)
    for number, trial in enumerate(trials, start=1):
        finish(planned, trial, 40.0 + number)
        shown = tables.after(trial)
        if number == len(trials):
            assert shown == [], "the report follows"
            continue
        (table,) = shown
        assert "Table 3, Section 5.4. " in table
        assert ", so far:" in table
        measured = [line for line in table.splitlines() if "measured" in line]
        assert [any(f"{40 + at}.0" in line for line in measured) for at in range(1, 5)] == [
            at <= number for at in range(1, 5)
        ]


def test_a_row_is_complete_with_its_last_seed(tmp_path: Path):
    planned, trials = planned_in(tmp_path, (0, 1), table3.EXPERIMENT)
    tables = TablesSoFar(planned, trials)
    assert [len(tables.after(trial)) for trial in trials] == [0, 0, 0, 0, 1, 1, 1, 0]


def test_what_is_there_already_completes_a_row_too(tmp_path: Path):
    planned, trials = planned_in(tmp_path, (0, 1), table3.EXPERIMENT)
    assert len(TablesSoFar(planned, trials[4:]).after(trials[4])) == 1


def test_one_trial_may_complete_rows_of_two_tables(tmp_path: Path):
    planned, trials = planned_in(tmp_path, (0,), table3.EXPERIMENT, table4.EXPERIMENT)
    of_both = set(table3.EXPERIMENT.trials(BASE, (0,))) & set(table4.EXPERIMENT.trials(BASE, (0,)))
    assert of_both
    tables = TablesSoFar(planned, trials)
    assert {trial: len(tables.after(trial)) for trial in trials[:-1]} == {
        trial: 2 if trial in of_both else 1 for trial in trials[:-1]
    }


def test_one_trial_alone_has_no_table_so_far(tmp_path: Path):
    store = ResultStore.open(tmp_path)
    experiment = single_trial(BASE.config)
    planned = Planned(store, {"train_a": experiment}, BASE, {"train": (0,)}, "dynrcnn train")
    assert TablesSoFar(planned, [BASE.trial_id, "another"]).after(BASE.trial_id) == []


def test_a_storage_that_does_not_answer_ends_no_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    planned, trials = planned_in(tmp_path, (0,), table3.EXPERIMENT)
    tables = TablesSoFar(planned, trials)
    (tmp_path / "plans" / "table3.parquet").write_bytes(b"not parquet")
    (text,) = tables.after(trials[0])
    assert text.startswith("The table so far cannot be drawn: ")
    assert "\n" not in text
