"""Numbers of trials, found by the store's plans."""

import math

import numpy as np
import pandas as pd
import pytest

from dynrcnn_ray.paper.judge import paper_numbers
from dynrcnn_ray.paper.speed_table import SPEED_FILE, speed_parquet
from dynrcnn_ray.report.trial_numbers import OFFSETS, course_numbers, offset_numbers, read_numbers

BASELINE = {"AP": 37.0, "AP50": 58.0, "AP90": 9.7}
BOTH = {"AP": 38.9, "AP50": 57.3, "AP90": 15.2}
ROWS = {"table3": {0: BASELINE, 3: BOTH}}


def test_rows_are_found_by_the_plan_and_have_their_finished_seeds(table3_store, make_trial):
    table3_store.write_trial(make_trial("row3seed1", seed=1, status="failed", AP=None, AP50=None, AP90=None))
    table3_store.write_trial(make_trial("of another table", AP=1.0))

    found = read_numbers(table3_store, ROWS)

    assert found.keys() == {"table3"}
    assert found["table3"][0].trials.keys() == {0, 1, 2}
    assert {seed: trial["AP"] for seed, trial in found["table3"][3].trials.items()} == pytest.approx({0: 52.7, 2: 53.3})
    assert found["table3"][3].scale == "mini"
    again = read_numbers(table3_store, ROWS, trials=table3_store.trials())
    assert again["table3"][3].trials.keys() == {0, 2}


def test_a_row_with_other_numbers_of_the_paper_is_another_row(table3_store):
    rows = {"table3": {0: BOTH, 3: BOTH}}

    found = read_numbers(table3_store, rows)

    assert found["table3"][0].trials == {}
    assert found["table3"][3].trials.keys() == {0, 1, 2}


def test_a_store_without_the_experiment_has_rows_without_trials(store):
    found = read_numbers(store, ROWS | {"table8": {0: {}}})

    assert {name: list(rows) for name, rows in found.items()} == {"table3": [0, 3], "table8": [0]}
    assert not any(row.trials or row.speeds or row.scale for rows in found.values() for row in rows.values())


def test_masks_have_their_own_metrics(store, make_trial):
    store.write_trial(make_trial("masked", AP=40.0, segm_AP=35.0))
    line = {"title": "t", "anchor": "a", "row": 0, "labels": {}, "seed": 4, "trial_id": "masked", "reported": {}}
    store.write_plan("table8", [line | {"metrics": ["AP"], "metric_prefix": "segm_", "scale": "mini", "command": ""}])

    (trial,) = read_numbers(store, {"table8": {0: {}}})["table8"][0].trials.values()

    assert (trial["AP"], trial["segm_AP"]) == (40.0, 35.0)


def test_figures_have_their_course(table3_store):
    plan = table3_store.plan("table3")
    kept = ["title", "anchor", "row", "labels", "seed", "trial_id", "metrics", "scale", "command"]
    lines = plan.loc[plan["row"] == 0, kept].to_dict("records")
    table3_store.write_plan("figure1", [{**line, "reported": {}} for line in lines])

    found = read_numbers(table3_store, ROWS | {"figure1": {0: {}}}, {"figure1": {"late T_now"}})

    course = table3_store.dynamics(["row0seed1"]).sort_values("step")["T_now"]
    numbers = found["figure1"][0].trials[1]
    assert len(course) == 30
    assert numbers["early T_now"] == pytest.approx(course.head(6).mean())
    assert numbers["late T_now"] == pytest.approx(course.tail(6).mean())


@pytest.mark.parametrize(("logged", "early", "late"), [(2, 1.0, 2.0), (5, 1.0, 5.0), (6, 1.5, 5.5), (11, 2.0, 10.0)])
def test_early_and_late_are_a_fifth_of_the_logged_steps(logged, early, late):
    steps = pd.DataFrame({"trial_id": "a", "step": range(logged), "loss": np.arange(1.0, logged + 1)})

    numbers = course_numbers(steps.sample(frac=1, random_state=0))

    assert numbers == {"a": {"early loss": early, "late loss": late}}


def test_a_course_may_have_holes_and_may_be_too_short():
    steps = pd.DataFrame(
        {"trial_id": ["a"] * 4 + ["b"], "step": [1, 2, 3, 4, 1], "loss": [math.nan, 2.0, 3.0, 4.0, 1.0], "lr": None}
    )

    numbers = course_numbers(steps)

    assert numbers.keys() == {"a"}
    assert math.isnan(numbers["a"]["early loss"])
    assert numbers["a"]["late loss"] == 4.0
    assert math.isnan(numbers["a"]["late lr"])


def test_offsets_are_those_of_figure_2():
    rng = np.random.default_rng(0)
    count = 900
    proposals = pd.DataFrame(
        {
            "trial_id": "a",
            "step": np.repeat([60, 200, 600], count // 3),
            "max_iou": rng.uniform(0.3, 1, count).astype(np.float32),
            "is_ground_truth": rng.uniform(size=count) < 0.2,
            **{name: rng.normal(size=count).astype(np.float32) for name in OFFSETS},
        }
    )

    numbers = offset_numbers(proposals)["a"]

    own = proposals[~proposals["is_ground_truth"]]
    for name in OFFSETS:
        for text, step, iou in (
            (f"early sigma of {name}", 60, 0.5),
            (f"late sigma of {name}", 600, 0.5),
            (f"late sigma of {name} at IoU 0.6", 600, 0.6),
        ):
            values = own.loc[(own["step"] == step) & (own["max_iou"] >= iou), name]
            assert numbers[text] == pytest.approx(values.std(ddof=0), rel=1e-5)
    assert offset_numbers(proposals[proposals["step"] == 60]) == {}


def test_speeds_are_read_in_the_tables_order(store):
    names = [f"{phase}_{name}" for phase in ("training", "inference") for name in ("images_per_second",)]
    ends = {f"{phase}_{end}_quartile": 1.0 for phase in ("training", "inference") for end in ("lower", "upper")}
    rows = [
        {"backbone": "tiny", "model": model, "scale": "mini", "rounds": 40, "hardware": "x"}
        | ends
        | dict.fromkeys(names, speed)
        | {"inference_images_per_second_paper": 10.0}
        for model, speed in (("Dynamic R-CNN", 20.0), ("Cascade R-CNN", 10.0))
    ]
    store.files.write_bytes(SPEED_FILE, speed_parquet(rows))

    found = paper_numbers(store)["table7"]

    assert [found[row].speeds["inference"].median for row in (0, 1)] == [20.0, 10.0]
    assert found[0].speeds["training"].rounds == 40
    assert found[1].scale == "mini"
    assert found[2].speeds == {}
