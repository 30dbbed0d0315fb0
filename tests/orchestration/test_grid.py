"""The whole way with a real Ray: command line, Tune, Train, workers, store, table and figure."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from dynrcnn_ray.config_yaml import from_yaml
from dynrcnn_ray.engine.collectives import Worker
from dynrcnn_ray.engine.trial import run_trial
from dynrcnn_ray.orchestration import grid
from dynrcnn_ray.results.store import ResultStore
from experiments.main import main
from tests.orchestration.commands import run_command

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def run(cache_home: Path, *arguments: str) -> str:
    """What a command prints that must succeed."""
    code, out = run_command(cache_home, *arguments)
    assert code == 0, out
    return out


def progress_lines(out: str) -> list[str]:
    return [line for line in out.splitlines() if line.startswith("[") and " step " in line]


@pytest.fixture(scope="module")
def store_of_table3(cache_home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Table 3 at scale smoke, one worker a trial."""
    storage = tmp_path_factory.mktemp("store")
    return storage, run(cache_home, "table3", "--scale", "smoke", "--train.steps", "6", "--storage", str(storage))


def test_table3_comes_out_as_parquet_markdown_and_figure(store_of_table3):
    storage, out = store_of_table3
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
        "figures/figure5_table3.png",
        "figures/figure5_table3.svg",
    ):
        assert (storage / name).stat().st_size > 0
        assert str(storage / name) in out


def test_progress_shows_step_loss_statistics_and_time_left(store_of_table3):
    _, out = store_of_table3
    lines = progress_lines(out)
    assert len(lines) == 4 * 3
    for word in ("loss", "T_now", "beta_now", "positives/image", "images/s"):
        assert all(word in line for line in lines)
    assert any(" left " in line for line in lines)


def test_every_trial_left_its_row_and_its_dynamics(store_of_table3):
    storage, _ = store_of_table3
    trials = pd.read_parquet(storage / "trials")
    assert list(trials["status"]) == ["finished"] * 4
    assert trials["git_commit"].notna().all()
    assert trials["hardware"].str.contains("CPU").all()
    dynamics = pd.read_parquet(storage / "dynamics")
    assert set(dynamics["trial_id"]) == set(trials["trial_id"])
    baseline = dynamics[dynamics["trial_id"] == trials.loc[trials["setting"] == "baseline", "trial_id"].item()]
    assert set(baseline["iou_threshold"]) == {0.5}
    assert set(baseline["smooth_l1_beta"]) == {1.0}


def test_a_process_that_trained_others_trains_the_same(store_of_table3):
    """Tune's processes go on from trial to trial, and so does this one, in another order: each gives the same bits."""
    store = ResultStore.open(store_of_table3[0])
    trials = store.trials().sort_values("trial_id").to_dict("records")
    assert len(trials) == 4
    for trial in trials:
        outcome = run_trial(from_yaml(trial["config"]), Worker())
        dynamics = store.dynamics([trial["trial_id"]]).sort_values("step")
        for name in ("loss", "T_now", "beta_now", "positives"):
            assert dynamics[name].tolist() == [row[name] for row in outcome.history], name
        assert outcome.metrics["AP50"] == trial["AP50"]


def test_the_same_command_trains_nothing_and_says_so(
    store_of_table3, cache_home: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    storage, _ = store_of_table3
    before = {file: file.stat().st_mtime_ns for file in (storage / "trials").iterdir()}
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    monkeypatch.setattr(grid, "ray_cluster", lambda: pytest.fail("Ray was started"))
    assert main(["table3", "--scale", "smoke", "--train.steps", "6", "--storage", str(storage)]) == 0
    out = capsys.readouterr().out
    assert "nothing to train, all 4 trials are in" in out
    assert not progress_lines(out)
    assert {file: file.stat().st_mtime_ns for file in (storage / "trials").iterdir()} == before


def test_report_draws_the_same_from_the_store_alone(store_of_table3, capsys):
    storage, _ = store_of_table3
    drawn = storage / "tables" / "table3.md"
    before = drawn.read_text()
    drawn.unlink()
    assert main(["report", "--storage", str(storage)]) == 0
    assert drawn.read_text() == before
    assert str(drawn) in capsys.readouterr().out


@pytest.fixture(scope="module")
def store_of_two_kinds(cache_home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Two Mask R-CNNs at scale smoke in one grid, the first trained by one worker, the second by two."""
    storage = tmp_path_factory.mktemp("two_kinds")
    axes = ["--axis", "dynamic.dla", "false", "true", "--axis", "run.num-workers", "1", "2", "--zip"]
    model = ["--scale", "smoke", "--model.name", "mask_rcnn", "--metrics", "AP50", "segm_AP50"]
    return storage, run(cache_home, "grid", "--name", "kinds", *model, *axes, "--storage", str(storage))


@pytest.fixture
def trial_of_two_workers(store_of_two_kinds) -> dict[str, Any]:
    (trial,) = [
        row for row in ResultStore.open(store_of_two_kinds[0]).trials().to_dict("records") if row["num_workers"] == 2
    ]
    return trial


def test_one_grid_trains_by_one_worker_and_by_two(store_of_two_kinds, trial_of_two_workers):
    storage, out = store_of_two_kinds
    store = ResultStore.open(storage)
    assert out.count("step 10/10") == 2
    assert list(store.trials()["status"]) == ["finished"] * 2
    assert trial_of_two_workers["workers_at_end"] == 2
    assert trial_of_two_workers["segm_AP"] >= 0
    assert "segm_AP50" in out
    checkpoints = (storage / "checkpoints" / trial_of_two_workers["trial_id"]).iterdir()
    assert {file.name for file in checkpoints} == {"step_00000005.pt", "step_00000010.pt"}
    for of_workers in store.dynamics([trial_of_two_workers["trial_id"]])["worker_T_now"]:
        assert len(of_workers) == 2
        assert of_workers[0] == of_workers[1]


def test_a_trained_trial_is_evaluated_on_any_split(
    store_of_two_kinds, trial_of_two_workers, reports_of_drivers, tmp_path: Path, capsys
):
    """On its validation split it scores what its row says; a split without annotations gives the file alone."""
    trial = trial_of_two_workers
    arguments = ["evaluate", "--trial", trial["trial_id"], "--storage", str(store_of_two_kinds[0])]
    arguments += ["--output", str(tmp_path)]
    assert main(arguments) == 0
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(("AP", "segm")))
    assert printed["AP50"] == f"{trial['AP50']:.1f}"
    assert printed["segm_AP50"] == f"{trial['segm_AP50']:.1f}"

    root = Path(yaml.safe_load(trial["config"])["data"]["root"])
    content = json.loads((root / "annotations" / "instances_val.json").read_text())
    del content["annotations"]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "image_info_test-dev2017.json").write_text(json.dumps(content))
    (tmp_path / "test-dev2017").symlink_to(root / "val")
    assert main([*arguments, "--data-root", str(tmp_path), "--split", "test-dev2017"]) == 0
    assert "has no annotations" in capsys.readouterr().out
    results = json.loads((tmp_path / f"detections_test-dev2017_{trial['trial_id']}_results.json").read_text())
    assert {row["image_id"] for row in results} <= {image["id"] for image in content["images"]}
    assert all({"image_id", "category_id", "bbox", "score", "segmentation"} == row.keys() for row in results)
