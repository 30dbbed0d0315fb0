"""Where masks are needed, every command checks and leaves out by them: one object of the data has none."""

import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import to_yaml
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.paper import table7_body
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.training.collectives import Worker
from experiments.main import main
from tests.prepared import prepared
from tests.training.test_trial import change
from tests.trial_events import run_to_end


@pytest.fixture
def root(smoke: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = shutil.copytree(smoke.data.root, tmp_path / "data")
    for split in ("train", "val"):
        file = root / "annotations" / f"instances_{split}.json"
        content = json.loads(file.read_text())
        del content["annotations"][0]["segmentation"]
        file.write_text(json.dumps(content))
    return root


def with_masks(smoke: TrialConfig, root: Path, **data: Any) -> TrialConfig:
    """Mask R-CNN on the data, nothing checked yet."""
    return change(smoke, model={"name": "mask_rcnn"}, data={"root": str(root), **data})


@pytest.mark.slow
def test_a_worker_that_lacks_the_cleaned_data_makes_the_same_again(smoke: TrialConfig, root: Path):
    config = with_masks(smoke, root, drop_invalid=True)
    trial = prepared(change(config, train={"steps": 1}))
    shutil.rmtree(trial.inputs.data_root)
    assert run_to_end(trial, Worker()).metrics["AP"] is not None


def write_trial(store: ResultStore, config: TrialConfig) -> None:
    row = {"trial_id": "abc", "experiment": "train", "setting": "trial", "seed": 0, "scale": "smoke", "num_workers": 1}
    row |= {"status": "finished", "AP": 0.0, "config": to_yaml(config)}
    store.write_trial(row | {"finished_at": datetime.datetime.now(datetime.UTC)})


@pytest.mark.parametrize("command", [["compare", "abc", "abc"], ["evaluate", "abc"]])
def test_commands_on_trials_with_masks_check_them(
    smoke: TrialConfig, root: Path, tmp_path: Path, capsys, command: list[str]
):
    write_trial(ResultStore.open(tmp_path / "store"), with_masks(smoke, root))
    assert main([*command, "--storage", str(tmp_path / "store")]) == 2
    train, val = capsys.readouterr().err.splitlines()
    assert "instances_train.json: no segmentation, which Mask R-CNN needs for every object: 1 annotation" in train
    assert "instances_val.json: no segmentation" in val


def test_a_plan_with_masks_leaves_out_what_the_run_leaves_out(smoke: TrialConfig, root: Path, capsys):
    config = with_masks(smoke, root, drop_invalid=True)
    arguments = ["--scale", "smoke", "--data.root", str(root), "--data.drop-invalid", "--model.name", "mask_rcnn"]
    assert main(["train", *arguments, "--dry-run"]) == 0
    assert prepared(config).trial_id in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", [["table8"], ["grid", "--name", "a", "--axis", "model.name", "faster_rcnn", "mask_rcnn"]]
)
def test_rows_with_masks_over_a_base_without_are_refused_before_anything_trains(
    root: Path, tmp_path: Path, capsys, command: list[str]
):
    arguments = ["--scale", "smoke", "--data.root", str(root), "--storage", str(tmp_path / "store")]
    assert main([*command, *arguments]) == 2
    assert "instances_train.json: no segmentation, which Mask R-CNN needs" in capsys.readouterr().err


def test_each_row_leaves_out_what_it_would_leave_out_alone(smoke: TrialConfig, root: Path, capsys):
    """So that tables share their trials: what has no mask is a box all the same."""
    arguments = ["--scale", "smoke", "--data.root", str(root), "--data.drop-invalid", "--dry-run"]
    alone = []
    for name in ("faster_rcnn", "mask_rcnn"):
        assert main(["train", *arguments, "--model.name", name]) == 0
        alone.append(capsys.readouterr().out.split("\n")[1].split()[0])
    assert main(["grid", "--name", "mine", *arguments, "--axis", "model.name", "faster_rcnn", "mask_rcnn"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:3]
    assert [line.split()[0] for line in lines] == alone


class SeenError(Exception):
    pass


def test_table7_leaves_out_objects_without_masks(
    smoke: TrialConfig, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[CocoDataset] = []

    def measure(models: Any, dataset: CocoDataset, *others: Any, **named: Any) -> None:
        seen.append(dataset)
        raise SeenError

    monkeypatch.setattr(table7_body, "measure_speed", measure)
    arguments = ["--scale", "smoke", "--data.root", str(root), "--data.drop-invalid", "--storage", str(tmp_path)]
    with pytest.raises(SeenError):
        main(["table7", *arguments])
    whole = CocoDataset(root, "val")
    objects = [sum(map(dataset.num_objects, range(len(dataset)))) for dataset in (seen[0], whole)]
    assert objects[0] == objects[1] - 1
