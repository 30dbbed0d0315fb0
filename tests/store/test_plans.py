"""Plans of one name add up."""

from collections.abc import Sequence
from typing import Any

from dynrcnn_ray.store.plans import with_earlier_rows
from dynrcnn_ray.store.results_store import ResultStore


def line(row: int, labels: dict[str, str], seed: int, trial: str, baseline: int | None, command: str) -> dict[str, Any]:
    shared = {"title": "t", "anchor": "a", "reported": {}, "metrics": ["AP"], "scale": "mini", "command": command}
    return shared | {"row": row, "labels": labels, "seed": seed, "trial_id": trial, "baseline_row": baseline}


def lines_at(seeds: Sequence[int], rows: Sequence[tuple[dict[str, str], str]], baseline: int | None, command: str):
    """Rows by their labels and the name of their trials, to which each seed is added."""
    return [
        line(row, labels, seed, f"{trial} {seed}", baseline, command)
        for row, (labels, trial) in enumerate(rows)
        for seed in seeds
    ]


def test_rows_seeds_and_the_baseline_of_both_are_there(store: ResultStore):
    first = [line(0, {"dla": ""}, 0, "b0", 0, "1"), line(1, {"dla": "✓", "K": "64"}, 0, "k64", 0, "1")]
    store.write_plan("mine", first)
    second = [
        line(0, {"K": "100", "dla": "✓"}, 0, "k100", 1, "2"),
        line(1, {"K": "", "dla": ""}, 0, "b0", 1, "2"),
        line(1, {"K": "", "dla": ""}, 1, "b1", 1, "2"),
    ]
    store.write_plan("mine", with_earlier_rows(store.plan("mine"), second))
    plan = store.plan("mine")
    assert plan is not None
    found = [(each["row"], each["seed"], each["trial_id"], each["baseline_row"]) for each in plan.to_dict("records")]
    assert found == [(0, 0, "b0", 0), (0, 1, "b1", 0), (1, 0, "k64", 0), (2, 0, "k100", 0)]
    assert set(plan["command"]) == {"2"}
    assert with_earlier_rows(store.plan("mine"), second) == with_earlier_rows(
        None, with_earlier_rows(store.plan("mine"), second)
    )


def test_a_row_that_is_trained_anew_takes_the_place_of_the_old_one():
    first = [line(0, {"K": "64"}, 0, "old", None, "1")]
    assert [each["trial_id"] for each in with_earlier_rows(None, first)] == ["old"]


def found(lines: list[dict[str, Any]]) -> list[tuple[int, int | None, str | None, int | None]]:
    return [(each["row"], each["seed"], each["trial_id"], each["baseline_row"]) for each in lines]


def test_switched_off_is_not_the_same_as_a_column_that_the_row_does_not_have(store: ResultStore):
    store.write_plan("mine", lines_at((0, 1), [({"K": "64"}, "on")], None, "1"))
    rows = [({"K": "64", "dsl": ""}, "off"), ({"K": "64", "dsl": "✓"}, "on"), ({"K": "100", "dsl": "-"}, "other")]
    second, at_earlier_seeds = (lines_at(seeds, rows, None, "2") for seeds in ((2,), (0, 1)))
    lines = with_earlier_rows(store.plan("mine"), second, at_earlier_seeds)
    # A trial tells that the row with the check mark is the first command's, though they share no seed.
    assert [each[:3] for each in found(lines)] == [
        (0, 0, "on 0"),
        (0, 1, "on 1"),
        (0, 2, "on 2"),
        (1, 2, "off 2"),
        (2, 2, "other 2"),
    ]
    assert [each["labels"] for each in lines[:3]] == [{"K": "64", "dsl": "✓"}] * 3
    store.write_plan("mine", lines)
    third = lines_at((1,), [({"K": "100"}, "other")], None, "3")
    assert [each["row"] for each in with_earlier_rows(store.plan("mine"), third)] == [0, 0, 0, 1, 2]


def test_a_name_that_is_given_to_another_configuration_takes_no_seed_along(store: ResultStore):
    """And what was mixed up by an earlier release comes apart."""
    store.write_plan("mine", lines_at((0, 1), [({"Setting": "A"}, "k64"), ({"Setting": "B"}, "k100")], None, "1"))
    rows = [({"Setting": "A"}, "k200"), ({"Setting": "C"}, "k64"), ({"Setting": "B"}, "k100")]
    second, at_earlier_seeds = (lines_at(seeds, rows, None, "2") for seeds in ((0,), (0, 1)))
    lines = with_earlier_rows(store.plan("mine"), second, at_earlier_seeds)
    assert {(each["labels"]["Setting"], each["trial_id"]) for each in lines} == {
        ("A", "k200 0"),
        ("B", "k100 0"),
        ("B", "k100 1"),
        ("C", "k64 0"),
        ("C", "k64 1"),
    }
    assert len({each["row"] for each in lines}) == 3


def test_what_belongs_to_a_row_is_that_of_the_latest_command_for_all_its_seeds(store: ResultStore):
    store.write_plan("mine", lines_at((0, 1), [({"K": "-"}, "old baseline"), ({"K": "64"}, "k64")], 0, "1"))
    rows = [({"K": "none"}, "new baseline"), ({"K": "64"}, "k64")]
    second, at_earlier_seeds = (lines_at(seeds, rows, 0, "2") for seeds in ((2,), (0, 1)))
    for each in (*second, *at_earlier_seeds):
        each["reported"] = {"AP": 38.9} if each["row"] == 1 else {}
    lines = with_earlier_rows(store.plan("mine"), second, at_earlier_seeds)
    assert [each[:3] for each in found(lines)] == [
        (0, 0, "old baseline 0"),
        (0, 1, "old baseline 1"),
        (1, 0, "k64 0"),
        (1, 1, "k64 1"),
        (1, 2, "k64 2"),
        (2, 2, "new baseline 2"),
    ]
    assert [each["baseline_row"] for each in lines] == [0, 0, 2, 2, 2, 2]
    assert [each["reported"] for each in lines[2:5]] == [{"AP": 38.9}] * 3
