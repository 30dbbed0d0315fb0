"""Which images `evaluate` measures on: those that were asked for, and never the training's in another name."""

import json
import shutil
from pathlib import Path

import pytest

from dynrcnn_ray.config.stored import to_stored
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.data.examples import example_images
from dynrcnn_ray.data.prepare import prepare_data
from dynrcnn_ray.execution.checkpoints import CheckpointFolder
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.state import build_training_state
from experiments.main import main
from tests.stored_table import trial_row
from tests.training.test_trial import change

pytestmark = pytest.mark.usefixtures("reports_of_drivers")
WHOLE, HELD_OUT = 16, 4


@pytest.fixture(autouse=True)
def _home(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))


def stored_trial(folder: Path, config: TrialConfig) -> Path:
    """A store with a finished trial on some data, whose weights are those of its first step."""
    store = ResultStore.open(folder)
    data = prepare_data(config.data)
    trial = Trial(config, data.inputs)
    state = build_training_state(trial, len(CocoDataset(data.root, "val").class_names), Worker())
    state.dynamic.step = config.total_steps
    CheckpointFolder(store.files, trial.training_id).save(state.state_dict(), config.total_steps, is_best=False, keep=1)
    store.write_trial(trial_row("abc", scale="smoke", config=to_stored(trial)))
    store.write_images(trial.inputs.data, example_images(CocoDataset(data.root, "val")))
    return folder


def measured(store: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> int:
    """On how many images it measured."""
    output = str(store.parent / "out")
    assert main(["evaluate", "abc", "--storage", str(store), "--output", output, *arguments]) == 0
    return int(capsys.readouterr().out.splitlines()[-1].partition(" images: ")[0].split()[-1])


def refused(store: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["evaluate", "abc", "--storage", str(store), *arguments]) == 2
    return capsys.readouterr().err


@pytest.fixture
def one_split(smoke: TrialConfig, tmp_path: Path) -> Path:
    """As a labelling tool exports one split."""
    root = tmp_path / "one"
    shutil.copytree(Path(smoke.data.root) / "train", root / "images")
    shutil.copy(Path(smoke.data.root) / "annotations" / "instances_train.json", root / "result.json")
    return root


def test_of_one_split_that_was_divided_the_held_out_part_is_measured(
    one_split: Path, smoke: TrialConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Also where the data lie in another folder than the trial's machine had them in."""
    divided = change(smoke, data={"root": str(one_split), "val_fraction": HELD_OUT / WHOLE})
    store = stored_trial(tmp_path / "store", divided)
    moved = tmp_path / "moved"
    shutil.copytree(one_split, moved)

    for root in ((), ("--data.root", str(one_split)), ("--data.root", str(moved))):
        assert measured(store, capsys, *root) == HELD_OUT, root
        assert measured(store, capsys, "--split", "train", *root) == WHOLE - HELD_OUT
        assert "there is no split 'test', but 'train', 'val'" in refused(store, capsys, "--split", "test", *root)
    assert len(list((store / "evaluations").iterdir())) == 2, "each split's results stand once"


def test_another_folder_of_one_split_is_measured_whole(
    one_split: Path, smoke: TrialConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """It has no name of its own."""
    store = stored_trial(tmp_path / "store", smoke)

    for split in ("val", "test"):
        assert measured(store, capsys, "--data.root", str(one_split), "--split", split) == WHOLE


def test_of_named_files_the_named_ones_are_measured(
    one_split: Path, smoke: TrialConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    val = CocoDataset(smoke.data.root, "val")
    named = {"root": "", "train_annotations": str(one_split / "result.json"), "train_images": str(one_split / "images")}
    named |= {"val_annotations": str(val.annotation_file), "val_images": f"{smoke.data.root}/val"}
    store = stored_trial(tmp_path / "store", change(smoke, data=named))

    for more in ((), ("--data.drop-invalid",)):
        assert measured(store, capsys, *more) == len(val)
    assert measured(store, capsys, "--split", "train") == WHOLE
    assert "there is no split 'test', but 'train', 'val'" in refused(store, capsys, "--split", "test")
    # The folder of the training's file alone: it has no split for validation.
    shutil.copytree(one_split, tmp_path / "moved")
    told = refused(store, capsys, "--data.root", str(tmp_path / "moved"))
    assert f"{tmp_path}/moved: has no split 'val' by its name, and the trial's files were named one by one" in told


def test_a_split_that_came_after_the_training_is_measured(
    one_split: Path, smoke: TrialConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Beside the one that was divided, whose copy in the cache does not know it."""
    divided = change(smoke, data={"root": str(one_split), "val_fraction": HELD_OUT / WHOLE})
    store = stored_trial(tmp_path / "store", divided)
    val = CocoDataset(smoke.data.root, "val")
    shutil.copytree(Path(smoke.data.root) / "val", one_split / "test" / "images")
    shutil.copy(val.annotation_file, one_split / "test" / "result.json")

    for root in ((), ("--data.root", str(one_split))):
        assert measured(store, capsys, "--split", "test", *root) == len(val)
        assert measured(store, capsys, *root) == HELD_OUT


def test_a_broken_validation_split_is_measured_in_part_where_that_is_asked_for(
    smoke: TrialConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    root = tmp_path / "data"
    shutil.copytree(smoke.data.root, root)
    store = stored_trial(tmp_path / "store", change(smoke, data={"root": str(root)}))
    next((root / "val").iterdir()).unlink()

    assert "leave them out with --data.drop-invalid" in refused(store, capsys)
    assert measured(store, capsys, "--data.drop-invalid") == 7
    (file,) = (store / "evaluations").iterdir()
    assert file.name != "detections_val_abc_results.json", "the trial's own results are of the whole split"


def test_generated_images_are_made_again_for_either_split(
    smoke: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    generated = change(smoke, data={"root": ""})
    store = stored_trial(tmp_path / "store", generated)
    for split, count in (("train", WHOLE), ("val", 8)):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"empty {split}"))
        assert measured(store, capsys, "--split", split) == count


def test_a_split_whose_categories_have_changed_since_the_training_is_refused(
    smoke: TrialConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The data were exported again, with other ids: all splits agree with each other, and none with the training."""
    root = tmp_path / "data"
    shutil.copytree(smoke.data.root, root)
    shutil.copytree(root / "val", root / "test")
    files = [root / "annotations" / f"instances_{split}.json" for split in ("train", "val", "test")]
    shutil.copy(files[1], files[2])
    store = stored_trial(tmp_path / "store", change(smoke, data={"root": str(root)}))
    assert measured(store, capsys, "--split", "test") == 8
    for file in files:
        content = json.loads(file.read_text())
        ids = [category["id"] for category in content["categories"]]
        other = dict(zip(ids, reversed(ids), strict=True))
        for record in content["annotations"]:
            record["category_id"] = other[record["category_id"]]
        for category in content["categories"]:
            category["id"] = other[category["id"]]
        file.write_text(json.dumps(content))

    assert "its categories are not those of" in refused(store, capsys, "--split", "test")
    assert "bring back the data of that run" in refused(store, capsys)
