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


def test_switched_off_is_not_the_same_as_a_column_that_the_row_does_not_have(store: ResultStore):
    first = [line(0, {"K": "64"}, seed, f"on{seed}", None, "1") for seed in (0, 1)]
    store.write_plan("mine", first)
    second = [
        line(0, {"K": "64", "dsl": ""}, 0, "off0", None, "2"),
        line(1, {"K": "64", "dsl": "✓"}, 0, "on0", None, "2"),
        line(2, {"K": "100", "dsl": "-"}, 0, "other", None, "2"),
    ]
    lines = added_up(store.plan("mine"), second)
    # The trial tells that the row with the check mark is the first command's.
    assert [(each["row"], each["seed"], each["trial_id"]) for each in lines] == [
        (0, 0, "on0"),
        (0, 1, "on1"),
        (1, 0, "off0"),
        (2, 0, "other"),
    ]
    assert [each["labels"] for each in lines[:2]] == [{"K": "64", "dsl": "✓"}] * 2
    store.write_plan("mine", lines)
    third = [line(0, {"K": "100"}, 1, "other1", None, "3")]
    assert [each["row"] for each in added_up(store.plan("mine"), third)] == [0, 0, 1, 2, 2]
