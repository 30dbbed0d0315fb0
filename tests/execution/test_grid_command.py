"""The command `grid`: from flags, a file and a module, with rows that an earlier one has run. Nothing is trained."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dynrcnn_ray.__main__ import main
from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.stored import to_stored
from dynrcnn_ray.config.validation import from_yaml
from dynrcnn_ray.execution import trials as grid
from dynrcnn_ray.paper import table4
from dynrcnn_ray.store.results_store import ResultStore
from tests.stored_table import dynamics_rows, trial_row

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def trained(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> list[grid.PlannedTrial]:
    """What the commands would train: each trial measures its K_I."""
    seen: list[grid.PlannedTrial] = []

    def run_trials(trials: Sequence[grid.PlannedTrial], *, storage: str, **_: Any) -> None:
        store = ResultStore.open(storage)
        for trial in trials:
            seen.append(trial)
            trial_id, config = trial.trial.trial_id, trial.trial.config
            store.write_dynamics(trial_id, dynamics_rows(0, config.seed))
            row = {"seed": config.seed, "scale": "smoke", "config": to_stored(trial.trial)}
            store.write_trial(trial_row(trial_id, **row, AP=float(config.dynamic.iou_top_k)))

    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(grid, "run_trials", run_trials)
    return seen


@pytest.mark.slow
def test_successive_grids_of_one_name_add_up(trained: list[grid.PlannedTrial], tmp_path: Path, capsys):
    flags = ["--scale", "smoke", "--storage", str(tmp_path), "--name", "ki", "--baseline", "dynamic.dla=false"]
    assert main(["grid", *flags, "--axis", "dynamic.iou-top-k", "64", "100"]) == 0
    assert len(trained) == 3
    capsys.readouterr()
    assert main(["grid", *flags, "--axis", "dynamic.iou-top-k", "100", "150", "--seeds", "0", "1"]) == 0
    assert len(trained) == 3 + 1 + 3, "K_I = 150, and a second seed of three rows"
    out = capsys.readouterr().out
    plan = ResultStore.open(tmp_path).plan("ki")
    assert plan is not None
    assert plan.groupby("row").size().tolist() == [2, 1, 2, 2]
    for measured in ("75.0", "64.0", "100.0", "150.0"):
        assert measured in out
    assert (tmp_path / "tables" / "ki.tex").is_file()
    assert main(["grid", *flags, "--axis", "dynamic.iou-top-k", "250", "--train.steps", "7"]) == 2
    err = capsys.readouterr().err
    assert "train.steps: 7 is not what the rows of 'ki' in" in err
    assert err.endswith("started from, 10; choose another name\n")
    assert len(trained) == 7


@pytest.mark.slow
def test_a_file_says_the_same_and_flags_change_its_base(trained: list[grid.PlannedTrial], tmp_path: Path):
    file = REPOSITORY / "experiments" / "table4_wide.yaml"
    arguments = [str(file), "--scale", "smoke", "--storage", str(tmp_path), "--train.steps", "6"]
    assert main(["grid", *arguments]) == 0
    assert [trial.setting for trial in trained] == [
        "Baseline",
        *(f"K_I = {value}" for value in (64, 75, 100, 150, 250)),
    ]
    assert {trial.trial.config.train.steps for trial in trained} == {6}
    assert {trial.trial.config.dynamic.dsl for trial in trained} == {False}
    plan = ResultStore.open(tmp_path).plan("table4_wide")
    assert plan is not None
    papers_own = {row.labels["Setting"]: row.reported for row in table4.EXPERIMENT.rows(base_config("smoke"))}
    reported = {labels["Setting"]: numbers for labels, numbers in zip(plan["labels"], plan["reported"], strict=True)}
    assert {name: numbers for name, numbers in reported.items() if numbers} == papers_own
    table = (tmp_path / "tables" / "table4_wide.md").read_text()
    assert re.search(r"paper[ |]+37\.9[ |]+\+0\.9 ", table)


MODULE = """
from dynrcnn_ray.experiment.experiment import Experiment, Row, with_fields

def rows(base):
    return [Row({"C": str(c)}, with_fields(base, "dynamic", update_interval=c), {}) for c in (3, 5)]

EXPERIMENT = Experiment("mine", "Mine", "C", ("AP",), ("dynamic.update_interval",), rows)

def build_model(config, num_classes, dynamic):
    from dynrcnn_ray.models.detector import build_model
    return build_model(config, num_classes, dynamic)
"""


@pytest.mark.slow
def test_a_module_hands_over_its_experiment_and_its_model(trained: list[grid.PlannedTrial], tmp_path: Path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(MODULE)
    arguments = ["grid", "--module", str(file), "--scale", "smoke", "--storage", str(tmp_path / "store")]
    assert main(arguments) == 0
    assert [trial.trial.config.dynamic.update_interval for trial in trained] == [3, 5]
    assert {trial.trial.config.model.module for trial in trained} == {str(file)}
    first = [trial.trial.trial_id for trial in trained]
    file.write_text(MODULE + "\n# changed\n")
    assert main(arguments) == 0
    assert not {trial.trial.trial_id for trial in trained[2:]} & set(first), "another model is another trial"
    assert main([*arguments, "--dynamic.update-interval", "9"]) == 2
    assert "mine sets this field itself" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no EXPERIMENT"),
        ("import nothing_of_this_name", "ends with ModuleNotFoundError: No module named"),
    ],
)
def test_a_module_that_is_none_is_refused(tmp_path: Path, capsys, content: str, message: str):
    (tmp_path / "mine.py").write_text(content)
    assert main(["grid", "--module", str(tmp_path / "mine.py")]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "grid: give a YAML file, or --module, or --axis"),
        (["/nowhere.yaml"], "/nowhere.yaml: cannot be read"),
        (["--axis", "dynamic.dla", "true"], "name: '' must be letters"),
        (["--module", "/nowhere.py"], "--module: '/nowhere.py' is no file"),
        (["--module", "a.py", "--axis", "dynamic.dla", "true"], "grid: give a YAML file, or"),
    ],
)
def test_mistakes_are_refused_in_one_line(capsys, arguments: list[str], message: str):
    assert main(["grid", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_a_stored_trials_configuration_is_a_file_to_start_from(
    trained: list[grid.PlannedTrial], tmp_path: Path, capsys
):
    storage = ["--storage", str(tmp_path / "store")]
    assert main(["train", "--scale", "smoke", "--dynamic.iou-top-k", "64", *storage]) == 0
    (first,) = trained
    last_line = capsys.readouterr().out.splitlines()[-1]
    found = ["predict", first.trial.trial_id, *storage, "--images", "PICTURES"]
    assert last_line == f"Detect with it: dynrcnn {shlex.join(found)}"
    assert main(["show", first.trial.trial_id, *storage]) == 0
    shown = capsys.readouterr().out
    assert (from_yaml(shown).dynamic.iou_top_k, from_yaml(shown).data.root) == (64, "")
    file = tmp_path / "trial.yaml"
    file.write_text(shown)
    assert main(["train", "--config", str(file), "--dry-run", *storage]) == 0
    assert first.trial.trial_id in capsys.readouterr().out
    axis = ["--name", "k", "--axis", "dynamic.iou-top-k", "64", "75"]
    assert main(["grid", *axis, "--config", str(file), "--dry-run", *storage]) == 0
    assert first.trial.trial_id in capsys.readouterr().out
    assert main(["train", "--config", str(file), "--scale=mini", *storage]) == 2
    assert "leave one of --scale and --config out" in capsys.readouterr().err
    assert main(["train", "--from", first.trial.trial_id, "--seed", "7", "--train.steps", "6", *storage]) == 0
    again = trained[-1].trial.config
    assert (again.seed, again.train.steps, again.dynamic.iou_top_k, again.scale) == (7, 6, 64, "smoke")
    assert main(["train", "--from", "nobody", *storage]) == 2
    assert "holds no trial 'nobody'" in capsys.readouterr().err
    assert main(["train", "--from", "a", "--config", "b", *storage]) == 2
    assert main(["show", *storage]) == 2


@pytest.mark.slow
def test_a_grid_over_models_with_any_title_is_drawn(trained: list[grid.PlannedTrial], tmp_path: Path):
    """`name` is a column of every table; a text of the user's is no formula and no border of a column."""
    file = tmp_path / "mine.yaml"
    file.write_text("title: '$\\\\textbf{Ours}$ | theirs'\naxes: {model.name: [faster_rcnn, mask_rcnn]}\n")
    arguments = ["--storage", str(tmp_path / "store"), "--scale", "smoke"]
    assert main(["grid", str(file), *arguments]) == 0
    table = pd.read_parquet(tmp_path / "store" / "tables" / "mine.parquet")
    assert table["model.name"].tolist() == ["faster_rcnn", "mask_rcnn"]
    file.write_text("title: t\nrows: {'a|b': {}, '$\\\\textbf{c}$': {dynamic.dla: false}}\n")
    assert main(["grid", str(file), "--name", "other", *arguments]) == 0
    lines = (tmp_path / "store" / "tables" / "other.md").read_text().splitlines()
    columns = {line.replace("\\|", "").count("|") for line in lines if line.startswith("| ") and "measured" in line}
    assert len(columns) == 1
    assert any("a\\|b" in line for line in lines)


def test_a_label_of_a_module_is_no_column_of_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "mine.py"
    file.write_text(
        "from dynrcnn_ray.experiment.experiment import Experiment, Row\n"
        "EXPERIMENT = Experiment('mine', 'a', 't', ('AP',), (), lambda base: [Row({'status': 'x'}, base, {})])\n"
    )
    assert main(["grid", "--module", str(file), "--scale", "smoke", "--storage", str(tmp_path / "store")]) == 2
    assert "a table has a column 'status' of its own; rename the label" in capsys.readouterr().err
