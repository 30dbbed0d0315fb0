"""The whole way with a real Ray: command line, Tune, Train, workers, store, table and figure."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from dynrcnn_ray.config_yaml import from_yaml
from dynrcnn_ray.engine.collectives import Worker
from dynrcnn_ray.engine.trial import run_trial
from dynrcnn_ray.results.store import ResultStore
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


def test_the_same_command_trains_nothing_and_says_so(store_of_table3, cache_home: Path):
    storage, _ = store_of_table3
    before = {file: file.stat().st_mtime_ns for file in (storage / "trials").iterdir()}
    out = run(cache_home, "table3", "--scale", "smoke", "--train.steps", "6", "--storage", str(storage))
    assert "nothing to train, all 4 trials are in" in out
    assert not progress_lines(out)
    assert {file: file.stat().st_mtime_ns for file in (storage / "trials").iterdir()} == before


def test_report_draws_the_same_from_the_store_alone(store_of_table3, cache_home: Path):
    storage, _ = store_of_table3
    drawn = storage / "tables" / "table3.md"
    before = drawn.read_text()
    drawn.unlink()
    out = run(cache_home, "report", "--storage", str(storage))
    assert drawn.read_text() == before
    assert str(drawn) in out


@pytest.fixture(scope="module")
def store_of_two_workers(cache_home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One Mask R-CNN at scale smoke, trained by two workers."""
    storage = tmp_path_factory.mktemp("two_workers")
    arguments = ["--scale", "smoke", "--model.name", "mask_rcnn", "--num-workers", "2", "--storage", str(storage)]
    return storage, run(cache_home, "train", *arguments)


def test_two_workers_train_one_trial(store_of_two_workers):
    storage, out = store_of_two_workers
    assert "step 10/10" in out
    (trial,) = ResultStore.open(storage).trials().to_dict("records")
    assert trial["num_workers"] == trial["workers_at_end"] == 2
    assert trial["status"] == "finished"
    assert trial["segm_AP"] >= 0
    assert "segm_AP50" in out
    checkpoints = (storage / "checkpoints" / trial["trial_id"]).iterdir()
    assert {file.name for file in checkpoints} == {"step_00000005.pt", "step_00000010.pt"}


def test_a_trained_trial_is_evaluated_on_any_split(store_of_two_workers, cache_home: Path, tmp_path: Path):
    """On its validation split it scores what its row says; a split without annotations gives the file alone."""
    storage, _ = store_of_two_workers
    (trial,) = ResultStore.open(storage).trials().to_dict("records")
    arguments = ["evaluate", "--trial", trial["trial_id"], "--storage", str(storage), "--output", str(tmp_path)]
    out = run(cache_home, *arguments)
    printed = dict(line.split() for line in out.splitlines() if line.startswith(("AP", "segm")))
    assert printed["AP50"] == f"{trial['AP50']:.1f}"
    assert printed["segm_AP50"] == f"{trial['segm_AP50']:.1f}"

    root = Path(yaml.safe_load(trial["config"])["data"]["root"])
    content = json.loads((root / "annotations" / "instances_val.json").read_text())
    del content["annotations"]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "image_info_test-dev2017.json").write_text(json.dumps(content))
    (tmp_path / "test-dev2017").symlink_to(root / "val")
    out = run(cache_home, *arguments, "--data-root", str(tmp_path), "--split", "test-dev2017")
    assert "has no annotations" in out
    results = json.loads((tmp_path / f"detections_test-dev2017_{trial['trial_id']}_results.json").read_text())
    assert {row["image_id"] for row in results} <= {image["id"] for image in content["images"]}
    assert all({"image_id", "category_id", "bbox", "score", "segmentation"} == row.keys() for row in results)


def test_a_trial_that_fails_is_recorded_with_its_reason(cache_home: Path, tmp_path: Path):
    arguments = ["--scale", "smoke", "--train.learning-rate", "1e8", "--run.log-every", "1", "--storage", str(tmp_path)]
    code, out = run_command(cache_home, "train", *arguments)
    assert code == 1
    assert "failed: TrainingDivergedError: the loss is not finite at step 2" in out
    (trial,) = ResultStore.open(tmp_path).trials().to_dict("records")
    assert trial["status"] == "failed"
    assert "not finite" in trial["error"]
    assert "in _check_finite" in trial["traceback"]
    # What led there.
    assert ResultStore.open(tmp_path).dynamics([trial["trial_id"]])["step"].tolist() == [1]
    assert not list((tmp_path / "running").iterdir())


def test_a_cluster_that_is_too_small_is_refused(cache_home: Path, tmp_path: Path):
    arguments = ["--scale", "smoke", "--run.cpus-per-worker", "4096", "--storage", str(tmp_path)]
    code, out = run_command(cache_home, "train", *arguments)
    assert code == 2
    assert "error: run.num_workers: 1 workers of 4096 CPU each do not fit, the cluster has" in out
