"""Grids of one's own: which rows they have, and what is refused in one line."""

import re
from pathlib import Path

import pytest

from dynrcnn_ray.cli.program import program
from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError, with_values
from dynrcnn_ray.experiment.experiment import Row
from dynrcnn_ray.experiment.sweep import Sweep, check_name, read_sweep, sweep_of_flags
from dynrcnn_ray.paper.paper import BESIDE, EXPERIMENTS
from dynrcnn_ray.store.labels import row_names

BASE = base_config("mini")
REPOSITORY = Path(__file__).resolve().parents[2]
TAKEN = program().table_names()


def rows_of(grid: Sweep, base: TrialConfig = BASE) -> list[Row]:
    return list(grid.experiment(TAKEN).rows(grid.based_on(base)))


def names(rows: list[Row]) -> list[str]:
    return row_names([row.labels for row in rows])


def test_every_combination_is_a_row_and_the_baseline_comes_first():
    axes = [("dynamic.iou-top-k", "64", "100"), ("--dynamic.dsl", "true", "false")]
    rows = rows_of(sweep_of_flags(axes, ["dynamic.dla=false"], name="my_ki"))
    fields = [
        (row.config.dynamic.iou_top_k, row.config.dynamic.dsl, row.config.dynamic.dla) for row in rows if row.config
    ]
    own = [(64, True, True), (64, False, True), (100, True, True), (100, False, True)]
    assert fields == [(75, True, False), *own]
    assert {row.baseline for row in rows} == {0}
    assert names(rows)[1:3] == ["dla + dsl, iou_top_k = 64", "dla, iou_top_k = 64"]


def test_a_row_has_one_name_in_whatever_order_its_fields_are_given():
    axes = [("dynamic.iou-top-k", "64", "100"), ("dynamic.dsl", "true", "false"), ("dynamic.dla", "true", "false")]
    of_trials = []
    for given in (axes, axes[::-1]):
        rows = rows_of(sweep_of_flags(given, [], name="my_ki"))
        of_trials.append(
            {Trial(row.config).trial_id: name for row, name in zip(rows, names(rows), strict=True) if row.config}
        )
    assert of_trials[0] == of_trials[1]
    assert "dla + dsl, iou_top_k = 64" in of_trials[0].values()


def test_side_by_side_and_a_baseline_among_the_rows():
    axes = [("dynamic.dla", "true", "false"), ("train.learning-rate", "1e-2", "0.02")]
    rows = rows_of(sweep_of_flags(axes, ["dynamic.dla=false", "train.learning_rate=2e-2"], name="a", zip=True))
    assert [(row.config.dynamic.dla, row.config.train.learning_rate) for row in rows if row.config] == [
        (True, 0.01),
        (False, 0.02),
    ]
    assert {row.baseline for row in rows} == {1}


FILE = """
title: K_I
base: {dynamic: {dsl: false}, train.milestones: [0.5, 0.7]}
rows:
  Baseline: {dynamic.dla: false}
  K_I = 64: {dynamic: {iou_top_k: 64}}
baseline: Baseline
metrics: [AP, AP90]
seeds: [0, 1]
"""


def test_a_file_names_its_rows():
    grid = read_sweep(FILE, "ki")
    rows = rows_of(grid)
    experiment = grid.experiment(TAKEN)
    assert (experiment.name, experiment.title, experiment.metrics, grid.seeds) == ("ki", "K_I", ("AP", "AP90"), (0, 1))
    assert names(rows) == ["Baseline", "K_I = 64"]
    assert [(row.config.dynamic.dla, row.config.dynamic.dsl) for row in rows if row.config] == [
        (False, False),
        (True, False),
    ]
    assert rows[1].config
    assert rows[1].config.train.milestones == (0.5, 0.7)
    assert {row.baseline for row in rows} == {0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("axes: [", "the grid is not valid YAML"),
        ("axis: {dynamic.dla: [true]}", "axis: unknown field"),
        ("seeds: many", "seeds: 'many' must be"),
        ("axes: {dynamic.iou_topk: [64]}", "dynamic.iou_topk: unknown field; did you mean dynamic.iou_top_k?"),
        ("axes: {dynamic.iou_top_k: [many]}", "dynamic.iou_top_k: 'many' must be a valid integer"),
        ("axes: {dynamic.iou_top_k: [0]}", "dynamic.iou_top_k: 0 must be greater than or equal to 1"),
        ("axes: {model.name: [fcos]}", "model.name: 'fcos' trains at fixed thresholds"),
        ("axes: {train.steps: []}", "axes.train.steps: has no value"),
        ("axes: {seed: [1, 2]}", "seed: all rows share it"),
        ("axes: {data.root: [a, b]}", "data.root: all rows share it"),
        ("axes: {train.steps: [true]}", "train.steps: True must be a valid integer"),
        ("axes: {train.steps: ['64']}", "train.steps: '64' must be a valid integer"),
        ("axes: {train.steps: [1:30]}", "train.steps: '1:30' must be a valid integer"),
        ("axes: {train.steps: [1_000]}", "train.steps: '1_000' must be a valid integer"),
        ("axes: {train.steps: [64.0]}", "train.steps: 64.0 must be a valid integer"),
        ("axes: {dynamic.dla: [no]}", "dynamic.dla: 'no' must be a valid boolean"),
        ("axes: {dynamic.dla: [1]}", "dynamic.dla: 1 must be a valid boolean"),
        ("{axes: {train.steps: [5]}, seeds: [true]}", "seeds.0: True must be a valid integer"),
        ("{axes: {train.steps: [5]}, zip: yes}", "zip: 'yes' must be a valid boolean"),
        ("rows: {1: {}}", "the name 1 may be read as a number or a truth value; quote it"),
        ("rows: {no: {}}", "the name no may be read as"),
        ("rows: {1e3: {}}", "the name 1e3 may be read as"),
        ("rows: {~: {}}", "the name ~ may be read as"),
        (
            "axes: {dynamic.iou_top_k: [64], dynamic.iou-top-k: [75]}",
            "dynamic.iou_top_k: stands twice, in two spellings; keep one",
        ),
        (
            "{rows: {a: {}}, base: {dynamic: {dla: false}, dynamic.dla: true}}",
            "dynamic.dla: stands twice, in two spellings",
        ),
        ("rows: {a: {train: {steps: 5, 'steps ': 6}}}", "train.steps: stands twice, in two spellings"),
        (
            "{axes: {train.steps: [5]}, baseline: {dynamic.dla: false, --dynamic.dla: true}}",
            "dynamic.dla: stands twice, in two spellings",
        ),
        ("{axes: {train.steps: [5]}, baseline: {seed: 1}}", "seed: all rows share it"),
        ("axes: {run.log_every: [5, 6]}", "'5' and '6' are the same trial"),
        ("{axes: {train.steps: [5]}, rows: {a: {}}}", "axes, rows: give the one or the other"),
        ("rows: {}", "axes, rows: give the one or the other"),
        ("{axes: {train.steps: [5, 6], dynamic.dla: [true]}, zip: true}", "zip: the axes must have equally many"),
        ("{rows: {a: {}}, baseline: b}", "baseline: 'b' is no row; allowed: a"),
        ("{rows: {a: {}}, baseline: {dynamic.dla: false}}", "must be the name of a row: a"),
        ("{rows: {a: {}}, metrics: [mAP]}", "metrics: 'mAP' is not allowed; allowed: AP, "),
        ("{rows: {a: {paper: 38.9}}}", "rows.a.paper: 38.9 must be numbers by metric"),
        ("{rows: {a: {paper: {}}}}", "rows.a.paper: there are none; allowed: AP, "),
        ("{rows: {a: {paper: {mAP: 38.9}}}}", "rows.a.paper: 'mAP' is not allowed; allowed: AP, "),
        ("{rows: {a: {paper: {AP: high}}}}", "rows.a.paper.AP: 'high' must be a number in percent"),
        ("{rows: {a: {paper: {AP: 389}}}}", "rows.a.paper.AP: 389 must be a number in percent, from 0 to 100"),
        ("{rows: {a: {paper: {AP: .nan}}}}", "rows.a.paper.AP: nan must be a number in percent"),
        ("{rows: {a: {dynamic: {paper: {AP: 38.9}}}}}", "dynamic.paper.AP: unknown field"),
        ("{rows: {a: {}}, name: table3}", "name: 'table3' is that of another table"),
        ("{rows: {a: {}}, name: train_a}", "name: 'train_a' is that of another table"),
        ("{rows: {a: {}}, name: ../a}", "name: '../a' must be letters"),
        ("{rows: {a: {}}, base: {train: {stepz: 5}}}", "train.stepz: unknown field; did you mean train.steps?"),
    ],
)
def test_a_mistake_is_refused_in_one_line(text: str, message: str):
    with pytest.raises(ConfigError) as refused:
        rows_of(read_sweep(text, "mine"))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_name_of_every_table_that_a_command_keeps_is_taken():
    files = [file for room in ("dynrcnn_ray", "benchmarks") for file in (REPOSITORY / room).rglob("*.py")]
    written = {name for file in files for name in re.findall(r'"tables/(\w+)\.', file.read_text())}
    assert {"findings", "benchmarks"} < written <= TAKEN
    assert {each.name for each in (*EXPERIMENTS, *BESIDE)} <= TAKEN
    for name in TAKEN:
        with pytest.raises(ConfigError, match=f"name: '{name}' is that of another table"):
            check_name(name, TAKEN)
    check_name("grid", TAKEN)


def test_a_file_means_what_it_says():
    """By YAML 1.2: 064 is sixty-four, 1e-3 a number, and quotes make any name a name."""
    text = """
    rows:
      "1": {train.steps: 064, train.learning_rate: 1e-3}
      "no": {train: {steps: 0x40}, data.train_short_sides: [0o100, 64]}
    """
    one, no = (row.config for row in rows_of(read_sweep(text, "mine")))
    assert one
    assert no
    assert (one.train.steps, one.train.learning_rate) == (64, 0.001)
    assert (no.train.steps, no.data.train_short_sides) == (64, (64, 64))


@pytest.mark.parametrize(
    ("axes", "baseline", "message"),
    [
        ([("dynamic.dla",)], [], "--axis: dynamic.dla must be a field and its values"),
        ([("dynamic.dla", "true"), ("dynamic.dla", "false")], [], "--axis: dynamic.dla stands twice"),
        ([("dynamic.dla", "true")], ["dynamic.dla=true", "dynamic.dla=false"], "dynamic.dla: stands twice"),
        ([("dynamic.dla", "true")], ["dynamic.dla"], "--baseline: 'dynamic.dla' must be FIELD=VALUE"),
    ],
)
def test_flags_that_are_not_whole_are_refused(axes, baseline, message: str):
    with pytest.raises(ConfigError, match=message):
        sweep_of_flags(axes, baseline, name="mine")


@pytest.mark.parametrize(
    "path", ["data.val_seed", "data.val_fraction", "data.train_annotations", "data.val_images", "run.mlflow"]
)
def test_what_all_rows_share_is_no_axis(path: str):
    """The data are prepared once, and a grid is logged to one place."""
    with pytest.raises(ConfigError, match=f"{path}: all rows share it"):
        read_sweep(f"axes: {{{path}: [0, 1]}}", "mine").experiment(TAKEN)


def test_a_field_that_nothing_reads_makes_no_other_trial():
    base = base_config("smoke")
    for values in (
        {"dynamic.fixed_iou": 0.6},
        {"dynamic.fixed_beta": 0.5},
        {"data.train_long_side": 500},
        {"test.multi_scale_long_side": 500},
        {"test.soft_nms": "linear", "test.soft_nms_sigma": 0.3},
        {"model.name": "cascade_rcnn", "dynamic.dla": False, "dynamic.dsl": False, "dynamic.fixed_iou": 0.6},
    ):
        config = with_values(base, values)
        read = with_values(base, {path: value for path, value in values.items() if path != list(values)[-1]})
        assert Trial(config).trial_id == Trial(read).trial_id, values
    fixed = {"dynamic.dla": False, "dynamic.dsl": False}
    for path in ("dynamic.fixed_iou", "dynamic.fixed_beta"):
        assert Trial(with_values(base, fixed | {path: 0.6})).trial_id != Trial(with_values(base, fixed)).trial_id
    experiment = read_sweep("axes: {dynamic.fixed_iou: [0.4, 0.6]}", "mine").experiment(TAKEN)
    with pytest.raises(ConfigError, match="are the same trial"):
        experiment.rows(base)
