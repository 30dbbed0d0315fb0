"""Plans of one name add up."""

from typing import Any

from dynrcnn_ray.results.plans import added_up
from dynrcnn_ray.results.store import ResultStore


def line(row: int, labels: dict[str, str], seed: int, trial: str, baseline: int | None, command: str) -> dict[str, Any]:
    shared = {"title": "t", "anchor": "a", "reported": {}, "metrics": ["AP"], "scale": "mini", "command": command}
    return shared | {"row": row, "labels": labels, "seed": seed, "trial_id": trial, "baseline_row": baseline}


def test_rows_seeds_and_the_baseline_of_both_are_there(store: ResultStore):
    first = [line(0, {"dla": ""}, 0, "b0", 0, "1"), line(1, {"dla": "✓", "K": "64"}, 0, "k64", 0, "1")]
    store.write_plan("mine", first)
    second = [
        line(0, {"K": "100", "dla": "✓"}, 0, "k100", 1, "2"),
        line(1, {"K": "", "dla": ""}, 0, "b0", 1, "2"),
        line(1, {"K": "", "dla": ""}, 1, "b1", 1, "2"),
    ]
    store.write_plan("mine", added_up(store.plan("mine"), second))
    plan = store.plan("mine")
    assert plan is not None
    found = [(each["row"], each["seed"], each["trial_id"], each["baseline_row"]) for each in plan.to_dict("records")]
    assert found == [(0, 0, "b0", 0), (0, 1, "b1", 0), (1, 0, "k64", 0), (2, 0, "k100", 0)]
    assert set(plan["command"]) == {"2"}
    assert added_up(store.plan("mine"), second) == added_up(None, added_up(store.plan("mine"), second))


def test_a_row_that_is_trained_anew_takes_the_place_of_the_old_one():
    first = [line(0, {"K": "64"}, 0, "old", None, "1")]
    assert [each["trial_id"] for each in added_up(None, first)] == ["old"]


def found(lines: list[dict[str, Any]]) -> list[tuple[int, int | None, str | None, int | None]]:
    return [(each["row"], each["seed"], each["trial_id"], each["baseline_row"]) for each in lines]


def test_switched_off_is_not_the_same_as_a_column_that_the_row_does_not_have(store: ResultStore):
    first = [line(0, {"K": "64"}, seed, f"on{seed}", None, "1") for seed in (0, 1)]
    store.write_plan("mine", first)
    second = [
        line(0, {"K": "64", "dsl": ""}, 2, "off2", None, "2"),
        line(1, {"K": "64", "dsl": "✓"}, 2, "on2", None, "2"),
        line(2, {"K": "100", "dsl": "-"}, 2, "other2", None, "2"),
    ]
    at_earlier_seeds = [
        each | {"seed": seed, "trial_id": f"{each['trial_id'][:-1]}{seed}"} for each in second for seed in (0, 1)
    ]
    lines = added_up(store.plan("mine"), second, at_earlier_seeds)
    # A trial tells that the row with the check mark is the first command's, though they share no seed.
    assert [each[:3] for each in found(lines)] == [
        (0, 0, "on0"),
        (0, 1, "on1"),
        (0, 2, "on2"),
        (1, 2, "off2"),
        (2, 2, "other2"),
    ]
    assert [each["labels"] for each in lines[:3]] == [{"K": "64", "dsl": "✓"}] * 3
    store.write_plan("mine", lines)
    third = [line(0, {"K": "100"}, 1, "other1", None, "3")]
    assert [each["row"] for each in added_up(store.plan("mine"), third)] == [0, 0, 0, 1, 2]


def test_a_name_that_is_given_to_another_configuration_takes_no_seed_along(store: ResultStore):
    """And what was mixed up by an earlier release comes apart."""
    first = [line(0, {"Setting": "A"}, seed, f"k64 {seed}", None, "1") for seed in (0, 1)]
    first += [line(1, {"Setting": "B"}, seed, f"k100 {seed}", None, "1") for seed in (0, 1)]
    store.write_plan("mine", first)
    rows = {"A": "k200", "C": "k64", "B": "k100"}
    second, at_earlier_seeds = (
        [
            line(row, {"Setting": name}, seed, f"{trial} {seed}", None, "2")
            for row, (name, trial) in enumerate(rows.items())
            for seed in seeds
        ]
        for seeds in ((0,), (0, 1))
    )
    lines = added_up(store.plan("mine"), second, at_earlier_seeds)
    assert {(each["labels"]["Setting"], each["trial_id"]) for each in lines} == {
        ("A", "k200 0"),
        ("B", "k100 0"),
        ("B", "k100 1"),
        ("C", "k64 0"),
        ("C", "k64 1"),
    }
    assert len({each["row"] for each in lines}) == 3


def test_what_belongs_to_a_row_is_that_of_the_latest_command_for_all_its_seeds(store: ResultStore):
    first = [line(0, {"K": "-"}, seed, f"old baseline {seed}", 0, "1") for seed in (0, 1)]
    first += [line(1, {"K": "64"}, seed, f"k64 {seed}", 0, "1") for seed in (0, 1)]
    store.write_plan("mine", first)
    second, at_earlier_seeds = (
        [line(0, {"K": "none"}, seed, f"new baseline {seed}", 0, "2") for seed in seeds]
        + [line(1, {"K": "64"}, seed, f"k64 {seed}", 0, "2") | {"reported": {"AP": 38.9}} for seed in seeds]
        for seeds in ((2,), (0, 1))
    )
    lines = added_up(store.plan("mine"), second, at_earlier_seeds)
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
