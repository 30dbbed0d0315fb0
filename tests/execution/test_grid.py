"""The whole way with a real Ray: command line, Tune, Train, workers, store, tables and figures."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dynrcnn_ray.config.stored import from_stored
from dynrcnn_ray.execution import trials as grid
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.events import outcome_of
from dynrcnn_ray.training.trial import run_trial
from experiments.main import main
from tests.execution.commands import run_command

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def progress_lines(out: str) -> list[str]:
    return [line for line in out.splitlines() if line.startswith("[") and " step " in line]


SMOKE = ("--scale", "smoke", "--model.name", "mask_rcnn", "--train.steps", "6")


@pytest.fixture(scope="module")
def trained_grid(cache_home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The rows of Table 3 with Mask R-CNN at scale smoke, as a grid of its own: one worker a trial, two for the last.

    Returns:
        Its store and what the command printed.
    """
    storage = tmp_path_factory.mktemp("store")
    parts = ["--axis", "dynamic.dla", "false", "false", "true", "true"]
    parts += ["--axis", "dynamic.dsl", "false", "true", "false", "true"]
    workers = ["--axis", "run.num-workers", "1", "1", "1", "2"]
    grid = ["grid", "--name", "kinds", *SMOKE, "--zip", *parts, *workers, "--metrics", "AP50", "segm_AP50"]
    code, out = run_command(cache_home, *grid, "--storage", str(storage))
    assert code == 0, out
    return storage, out


@pytest.fixture
def by_workers(trained_grid: tuple[Path, str]) -> dict[int, list[dict[str, Any]]]:
    """The rows of the store, by the number of their workers."""
    trials = ResultStore.open(trained_grid[0]).trials().sort_values("trial_id").to_dict("records")
    return {number: [trial for trial in trials if trial["num_workers"] == number] for number in (1, 2)}


def test_progress_shows_step_loss_statistics_and_time_left(trained_grid):
    _, out = trained_grid
    lines = progress_lines(out)
    assert len(lines) == 4 * 2, "one a half of so short a run"
    for word in ("loss", "T_now", "beta_now", "positives/image", "images/s"):
        assert all(word in line for line in lines)
    assert any(" left " in line for line in lines)
    assert "segm_AP50" in out


def test_every_trial_left_its_row_its_dynamics_and_its_checkpoints(trained_grid, by_workers):
    storage, _ = trained_grid
    trials = pd.read_parquet(storage / "trials")
    assert list(trials["status"]) == ["finished"] * 4
    assert trials["git_commit"].notna().all()
    assert trials["hardware"].str.contains("CPU").all()
    assert (trials["segm_AP"] >= 0).all()
    assert {number: len(rows) for number, rows in by_workers.items()} == {1: 3, 2: 1}
    assert trials["workers_at_end"].tolist() == trials["num_workers"].tolist()

    dynamics = pd.read_parquet(storage / "dynamics")
    assert set(dynamics["trial_id"]) == set(trials["trial_id"])
    (baseline,) = [
        trial["trial_id"]
        for trial in by_workers[1]
        if not any(getattr(from_stored(trial["config"]).config.dynamic, part) for part in ("dla", "dsl"))
    ]
    of_baseline = dynamics[dynamics["trial_id"] == baseline]
    assert set(of_baseline["iou_threshold"]) == {0.5}
    assert set(of_baseline["smooth_l1_beta"]) == {1.0}
    for of_shards in dynamics.loc[dynamics["trial_id"] == by_workers[2][0]["trial_id"], "shard_T_now"]:
        assert len(of_shards) == 2
        assert of_shards[0] == of_shards[1]

    for trial_id in trials["trial_id"]:
        checkpoints = (storage / "checkpoints" / trial_id).iterdir()
        assert {file.name for file in checkpoints} == {"step_00000005.pt", "step_00000006.pt"}


def test_a_process_that_trained_others_trains_the_same(trained_grid, by_workers):
    """Tune's processes go on from trial to trial, and so does this one, in another order: each gives the same bits."""
    store = ResultStore.open(trained_grid[0])
    for trial in by_workers[1]:
        outcome = outcome_of(run_trial(from_stored(trial["config"]), Worker()))
        dynamics = store.dynamics([trial["trial_id"]]).sort_values("step")
        for name in ("loss", "T_now", "beta_now", "positives"):
            assert dynamics[name].tolist() == [row[name] for row in outcome.history], name
        assert outcome.metrics["AP50"] == trial["AP50"]


def times_of_trials(storage: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in (storage / "trials").iterdir()}


@pytest.fixture
def table3(trained_grid, cache_home: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> str:
    """What the command of the paper's table prints on that store, whose trials it leaves as they are."""
    before = times_of_trials(trained_grid[0])
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    monkeypatch.setattr(grid, "ray_cluster", lambda: pytest.fail("Ray was started"))
    assert main(["table3", *SMOKE, "--storage", str(trained_grid[0])]) == 0
    assert times_of_trials(trained_grid[0]) == before
    return capsys.readouterr().out


def test_a_command_whose_trials_another_one_ran_trains_nothing_and_says_so(table3: str):
    assert "nothing to train, all 4 trials are in" in table3
    assert not progress_lines(table3)


def test_table3_comes_out_as_parquet_markdown_and_figure(trained_grid, table3: str):
    storage, _ = trained_grid
    table = pd.read_parquet(storage / "tables" / "table3.parquet")
    assert list(zip(table["DLA"], table["DSL"], strict=True)) == [("", ""), ("", "✓"), ("✓", ""), ("✓", "✓")]
    assert set(table["source"]) == {"measured"}
    assert set(table["n"]) == {1}
    assert list(table["AP90_paper"]) == [9.7, 13.2, 12.6, 15.2]
    assert (table["AP_minus_paper"] == table["AP"] - table["AP_paper"]).all()
    markdown = (storage / "tables" / "table3.md").read_text()
    assert "Table 3, Section 5.4" in markdown
    for name in (
        "tables/table3.parquet",
        "tables/table3.md",
        "figures/trends_table3.png",
        "figures/trends_table3.svg",
    ):
        assert (storage / name).stat().st_size > 0
        assert str(storage / name) in table3


def test_report_draws_the_same_from_the_store_alone(trained_grid, table3: str, capsys):
    storage, _ = trained_grid
    drawn = storage / "tables" / "table3.md"
    before = drawn.read_text()
    drawn.unlink()
    assert main(["report", "--storage", str(storage)]) == 0
    assert drawn.read_text() == before
    assert str(drawn) in capsys.readouterr().out


def test_a_trained_trial_is_evaluated_on_any_split(
    trained_grid, by_workers, reports_of_drivers, tmp_path: Path, capsys
):
    """On its validation split it scores what its row says; a split without annotations gives the file alone."""
    (trial,) = by_workers[2]
    arguments = ["evaluate", trial["trial_id"], "--storage", str(trained_grid[0])]
    arguments += ["--output", str(tmp_path)]
    assert main(arguments) == 0
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(("AP", "segm")))
    assert printed["AP50"] == f"{trial['AP50']:.1f}"
    assert printed["segm_AP50"] == f"{trial['segm_AP50']:.1f}"

    root = Path(from_stored(trial["config"]).inputs.data_root)
    content = json.loads((root / "annotations" / "instances_val.json").read_text())
    del content["annotations"]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "image_info_test-dev2017.json").write_text(json.dumps(content))
    (tmp_path / "test-dev2017").symlink_to(root / "val")
    assert main([*arguments, "--data.root", str(tmp_path), "--split", "test-dev2017"]) == 0
    assert "has no annotations" in capsys.readouterr().out
    (file,) = tmp_path.glob(f"detections_test-dev2017_{trial['trial_id']}-*_results.json")
    results = json.loads(file.read_text())
    assert {row["image_id"] for row in results} <= {image["id"] for image in content["images"]}
    assert all({"image_id", "category_id", "bbox", "score", "segmentation"} == row.keys() for row in results)
