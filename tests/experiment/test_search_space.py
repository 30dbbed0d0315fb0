"""What a search varies: its fields' values, and what is refused in one line."""

import pytest

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.experiment.experiment import Experiment, Row
from dynrcnn_ray.experiment.search_space import Range, holds, labels_of, rounded, space_of_flags, trial_at

BASE = base_config("mini")


def test_ranges_and_choices():
    ranges = [("dynamic.iou-top-k", "32", "256"), ("train.learning-rate", "1e-3", "0.1")]
    space = space_of_flags(ranges, ["train.learning_rate"], [("dynamic.dsl", "true", "false")], BASE)
    assert space == {
        "dynamic.iou_top_k": Range(32, 256, log=False, is_whole=True),
        "train.learning_rate": Range(1e-3, 0.1, log=True, is_whole=False),
        "dynamic.dsl": (True, False),
    }
    config = trial_at(Trial(BASE), {"dynamic.iou_top_k": 100, "train.learning_rate": 0.02, "dynamic.dsl": False}).config
    assert labels_of(config, space) == {
        "dynamic.iou_top_k": "100",
        "train.learning_rate": "0.02",
        "dynamic.dsl": "False",
    }


def test_a_point_has_the_id_under_which_a_plan_names_it():
    """Scale mini starts from a file of weights, whose fingerprint counts."""
    trial = trial_at(Trial(BASE), {"dynamic.iou_top_k": 100})
    table = Experiment("a", "Search", "a", ("AP",), (), lambda _: [Row({"K_I": "100"}, trial.config, {})])
    assert [line["trial_id"] for line in table.plan(Trial(BASE), [0], "")] == [trial.trial_id]


@pytest.mark.parametrize(
    ("ranges", "logs", "choices", "message"),
    [
        ([], [], [], "search: give one --range FIELD LOW HIGH or --choice FIELD"),
        ([()], [], [], "--range: nothing must be FIELD LOW HIGH"),
        ([], [], [()], "--choice: nothing must be FIELD VALUE VALUE"),
        ([("train.steps", "5")], [], [], "--range: train.steps 5 must be FIELD LOW HIGH"),
        ([("train.steps", "9", "5")], [], [], "--range: train.steps from 9 to 5 is empty"),
        ([("train.stepz", "5", "9")], [], [], "train.stepz: unknown field; did you mean train.steps?"),
        ([("dynamic.dla", "false", "true")], [], [], "--range: dynamic.dla is no number; give --choice"),
        ([("seed", "0", "9")], [], [], "seed: all rows share it"),
        ([("train.momentum", "0", "0.9")], ["train.momentum"], [], "--log: train.momentum begins at 0"),
        ([("train.steps", "5", "9")], ["train.momentum"], [], "--log: 'train.momentum' has no --range"),
        ([("train.steps", "5", "9")], [], [("train.steps", "7", "8")], "train.steps: stands twice"),
        ([], [], [("dynamic.dla", "true")], "--choice: dynamic.dla must have two values or more"),
    ],
)
def test_a_mistake_is_refused_in_one_line(ranges, logs, choices, message: str):
    with pytest.raises(ConfigError) as refused:
        space_of_flags(ranges, logs, choices, BASE)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_points_that_differ_have_labels_that_differ():
    """The plan of a search knows its trials by their labels: of two that look alike one would be lost."""
    base = base_config("smoke")
    space = {"dynamic.initial_iou": Range(0.4000004, 0.5, log=False, is_whole=False), "dynamic.dsl": (True, False)}
    near = [{"dynamic.initial_iou": value, "dynamic.dsl": True} for value in (0.408010, 0.408041, 0.4080414)]
    trials = [trial_at(Trial(base), rounded(point, space)) for point in near]
    assert [labels_of(trial.config, space)["dynamic.initial_iou"] for trial in trials] == [
        "0.40801",
        "0.408041",
        "0.408041",
    ]
    assert [trial.trial_id == trials[1].trial_id for trial in trials] == [False, True, True]
    lowest = trial_at(Trial(base), rounded({"dynamic.initial_iou": 0.4000004, "dynamic.dsl": True}, space))
    assert holds(space, lowest.config)


def test_a_point_outside_of_the_space():
    base = base_config("smoke")
    space = {"dynamic.iou_top_k": Range(32, 128, log=False, is_whole=True), "dynamic.update_interval": (10, 20)}
    inside = {"dynamic.iou_top_k": 128, "dynamic.update_interval": 10}
    assert holds(space, trial_at(Trial(base), inside).config)
    assert not holds(space, trial_at(Trial(base), inside | {"dynamic.iou_top_k": 200}).config)
    assert not holds(space, trial_at(Trial(base), inside | {"dynamic.update_interval": 4}).config)
