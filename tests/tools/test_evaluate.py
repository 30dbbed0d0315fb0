"""The command `evaluate` on the scale smoke: by two workers, what it checks, and checkpoints that do not fit."""

import datetime
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dynrcnn_ray.config.stored import to_stored
from dynrcnn_ray.config.trial import Inputs, Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.data.examples import example_images
from dynrcnn_ray.evaluation.results_file import results_bytes
from dynrcnn_ray.execution.checkpoints import CheckpointFolder
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.tools.evaluate import evaluation
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.inference import detect, detect_all
from dynrcnn_ray.training.state import TrainingState, build_training_state
from experiments.main import main
from tests.execution.commands import run_command
from tests.prepared import prepared
from tests.training.test_trial import change


@pytest.fixture
def home(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))


@pytest.fixture
def folder(tmp_path: Path, home: None, smoke: TrialConfig) -> CheckpointFolder:
    """A finished trial of ten steps with an untrained checkpoint of its last in its store."""
    store = ResultStore.open(tmp_path / "store")
    write_row(store, prepared(smoke))
    folder = CheckpointFolder(store.files, prepared(smoke).training_id)
    save(folder, untrained(smoke))
    return folder


def write_row(store: ResultStore, trial: Trial) -> None:
    row = {"trial_id": "abc", "experiment": "train", "setting": "trial", "seed": 0, "scale": "smoke", "num_workers": 1}
    row |= {"status": "finished", "AP": 0.0, "config": to_stored(trial)}
    store.write_trial(row | {"finished_at": datetime.datetime.now(datetime.UTC)})


LAST = 10


def untrained(config: TrialConfig, more_classes: int = 0, step: int = LAST) -> TrainingState:
    classes = CocoDataset(config.data.root, config.data.val_split).class_names
    state = build_training_state(prepared(config), len(classes) + more_classes, Worker())
    state.dynamic.step = step
    return state


def save(folder: CheckpointFolder, state: TrainingState | dict) -> None:
    contents = state if isinstance(state, dict) else state.state_dict()
    step = contents.get("dynamic", {"step": LAST})["step"]
    folder.save(contents, step, is_best=False, keep=2)


def run(folder: CheckpointFolder, tmp_path: Path, *arguments: str) -> int:
    return main(["evaluate", "abc", "--storage", folder.files.root, "--output", str(tmp_path / "out"), *arguments])


@pytest.mark.ray
@pytest.mark.slow
def test_it_evaluates_the_last_checkpoint_on_the_trials_workers(
    folder: CheckpointFolder, smoke: TrialConfig, tmp_path: Path
):
    """By two workers, and with the same detections as this process alone has."""
    trained = untrained(smoke)
    save(folder, trained)
    home = Path(os.environ["XDG_CACHE_HOME"])
    arguments = ["evaluate", "abc", "--storage", folder.files.root, "--output", str(tmp_path / "out")]
    code, out = run_command(home, *arguments, "--run.num-workers", "2")
    assert code == 0, out
    assert "AP50 " in out
    assert "starts: detects on val by trial abc" in out
    assert "4/8 images" in out
    assert "8/8 images" in out
    dataset = CocoDataset(smoke.data.root, "val")
    expected = json.loads(results_bytes(detect_all(smoke, trained.model, dataset, Worker())))
    written = json.loads((tmp_path / "out" / "detections_val_abc_results.json").read_text())
    assert written == expected


def test_what_driver_and_worker_do_without_ray(
    folder: CheckpointFolder,
    reports_of_drivers: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """Both in this process: the notes of progress, the metrics and the file that comes back through the storage."""
    assert run(folder, tmp_path) == 0
    out = capsys.readouterr().out
    assert "AP50 " in out
    assert "detections_val_abc_results.json" in out
    assert [report["progress"].split()[0] for report in reports_of_drivers[:-1]] == [
        f"{8 * tenth // 10}/8" for tenth in range(1, 11)
    ]
    assert reports_of_drivers[-1]["ending"] == "finished"
    stored = Path(folder.files.root) / "evaluations" / "detections_val_abc_results.json"
    assert stored.read_bytes() == (tmp_path / "out" / stored.name).read_bytes()

    def fails(*given: Any) -> dict:
        raise RuntimeError("the worker's reason")

    monkeypatch.setattr(evaluation, "fit", fails)
    assert run(folder, tmp_path) == 1
    assert capsys.readouterr().err == "The evaluation has failed: RuntimeError: the worker's reason\n"


def test_every_worker_counts_ten_tenths_however_few_images_it_has(smoke: TrialConfig):
    dataset, model = CocoDataset(smoke.data.root, "val"), untrained(smoke).model
    for rank in (0, 7, 8):
        tenths: list[int] = []
        detect(smoke, model, dataset, Worker(rank, 9), on_tenth=tenths.append)
        assert tenths == list(range(1, 11))


def truncated(folder: CheckpointFolder, smoke: TrialConfig) -> None:
    file = Path(folder.described) / "step_00000010.pt"
    file.write_bytes(file.read_bytes()[:1000])


def missing(folder: CheckpointFolder, smoke: TrialConfig) -> None:
    save(folder, untrained(smoke, step=5))
    (Path(folder.described) / "step_00000010.pt").unlink()


def of_another_training(folder: CheckpointFolder, smoke: TrialConfig) -> None:
    save(folder, untrained(change(smoke, train={"learning_rate": 0.5})))


def of_another_model(folder: CheckpointFolder, smoke: TrialConfig) -> None:
    other = change(smoke, model={"name": "cascade_rcnn"}, dynamic={"dla": False, "dsl": False})
    save(folder, untrained(other).state_dict() | {"training_id": prepared(smoke).training_id})


def of_other_classes(folder: CheckpointFolder, smoke: TrialConfig) -> None:
    save(folder, untrained(smoke, more_classes=1))


def of_weights_alone(folder: CheckpointFolder, smoke: TrialConfig) -> None:
    save(folder, dict(untrained(smoke).model.state_dict()))


def without_a_model(folder: CheckpointFolder, smoke: TrialConfig) -> None:
    save(folder, {"training_id": prepared(smoke).training_id, "dynamic": {"step": LAST}})


def no_mapping(folder: CheckpointFolder, smoke: TrialConfig) -> None:
    torch.save([1, 2], Path(folder.described) / "step_00000010.pt")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncated, "the checkpoint of step 10 (the trial's last) is damaged (BadZipFile); move the trial's file in"),
        (
            missing,
            "the checkpoint of step 10 (the trial's last) is missing; there is one of step 5: move the trial's",
        ),
        (of_another_training, "the checkpoint is of training '"),
        (of_another_model, "the checkpoint does not fit this training's model (RuntimeError: Error(s) in loading"),
        (of_other_classes, "the checkpoint does not fit this training's model (RuntimeError: Error(s) in loading"),
        (of_weights_alone, "the checkpoint is of training None, not of '"),
        (without_a_model, "the checkpoint does not fit this training's model (KeyError: 'model'); move it away"),
        (no_mapping, "the checkpoint is of training None, not of '"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_in_a_line(
    folder: CheckpointFolder,
    smoke: TrialConfig,
    tmp_path: Path,
    capsys,
    damage: Callable[[CheckpointFolder, TrialConfig], None],
    message: str,
):
    damage(folder, smoke)
    assert run(folder, tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {folder.described}")
    assert f": {message}" in line
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "store" / "evaluations").exists()


@pytest.fixture
def other_split(smoke: TrialConfig, tmp_path: Path) -> Path:
    """The trial's data with a third split, `more`, whose first box is beyond its image."""
    root = tmp_path / "data"
    shutil.copytree(smoke.data.root, root)
    shutil.copytree(root / "val", root / "more")
    content = json.loads((root / "annotations" / "instances_val.json").read_text())
    content["annotations"][0]["bbox"] = [1000, 0, 5, 5]
    (root / "annotations" / "instances_more.json").write_text(json.dumps(content))
    return root


@pytest.mark.usefixtures("reports_of_drivers")
def test_another_split_is_checked_before_it_is_measured_on(
    folder: CheckpointFolder, other_split: Path, tmp_path: Path, capsys
):
    assert run(folder, tmp_path, "--data.root", str(other_split), "--split", "more") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"error: {other_split}/annotations/instances_more.json: bbox outside its image, or more than half of it: 1 ann"
    )
    assert line.endswith("; correct them, or leave them out with --data.drop-invalid")
    assert run(folder, tmp_path, "--data.root", str(other_split), "--split", "more", "--data.drop-invalid") == 0
    said = capsys.readouterr()
    assert "instances_more.json: left out 0 images and 1 annotations" in said.err
    assert "AP50 " in said.out


@pytest.mark.usefixtures("reports_of_drivers")
def test_a_split_of_another_tool_is_measured_like_the_same_of_coco(
    folder: CheckpointFolder, smoke: TrialConfig, other_split: Path, tmp_path: Path, capsys
):
    """Ids as text and from 0, flags as truth values, a root category, images under a prefix and on their side."""
    shutil.rmtree(other_split / "more")
    shutil.copytree(other_split / "val", other_split / "more")
    file = other_split / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    for number, record in enumerate(content["annotations"]):
        record |= {"id": number, "image_id": str(record["image_id"]), "iscrowd": bool(record["iscrowd"]), "area": None}
    for category in content["categories"]:
        category["supercategory"] = "all"
    content["categories"].append({"id": 1000, "name": "all", "supercategory": "none"})
    for image in content["images"]:
        stored = Image.open(other_split / "more" / image["file_name"]).transpose(Image.Transpose.ROTATE_90)
        tags = Image.Exif()
        tags[0x0112] = 6
        png = Path(image["file_name"]).with_suffix(".png").name
        stored.save(other_split / "more" / png, exif=tags)
        image["file_name"] = f"more/{png}"
    (other_split / "annotations" / "instances_more.json").write_text(json.dumps(content))
    content = json.loads(file.read_text())
    for record in content["annotations"]:
        record["area"] = record["bbox"][2] * record["bbox"][3]
    file.write_text(json.dumps(content))
    measured = []
    for split in ("val", "more"):
        assert run(folder, tmp_path, "--data.root", str(other_split), "--split", split) == 0
        table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("AP")]
        (file,) = (tmp_path / "out").glob(f"detections_{split}_abc*_results.json")
        detections = json.loads(file.read_text())
        assert detections
        measured.append((table, detections))
    assert measured[0] == measured[1]


@pytest.mark.usefixtures("reports_of_drivers")
def test_other_data_of_the_same_split_s_name_leave_the_trial_s_own_results(
    folder: CheckpointFolder, smoke: TrialConfig, other_split: Path, tmp_path: Path
):
    results = Path(folder.files.root) / "evaluations" / "detections_val_abc_results.json"
    assert run(folder, tmp_path) == 0
    own = results.read_bytes()
    file = other_split / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    content["images"] = content["images"][:2]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [each for each in content["annotations"] if each["image_id"] in kept]
    file.write_text(json.dumps(content))
    for _ in range(2):
        assert run(folder, tmp_path, "--data.root", str(other_split), "--split", "val") == 0
    assert results.read_bytes() == own
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:6]
    names = sorted(path.name for path in results.parent.iterdir())
    assert names == [f"detections_val_abc-{digest}_results.json", results.name]
    assert names == sorted(path.name for path in (tmp_path / "out").iterdir())


def test_the_images_of_another_split_are_checked(folder: CheckpointFolder, other_split: Path, tmp_path: Path, capsys):
    next((other_split / "val").iterdir()).unlink()
    assert run(folder, tmp_path, "--data.root", str(other_split)) == 2
    assert f"{other_split}/val lacks images: 1 image" in capsys.readouterr().err


def test_a_split_that_trained_is_checked_as_one_to_measure_on(
    folder: CheckpointFolder, smoke: TrialConfig, other_split: Path, tmp_path: Path, capsys
):
    """A box without extent is fine in training, but no detection can match it."""
    file = other_split / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"][2] = 0
    file.write_text(json.dumps(content))
    assert run(folder, tmp_path, "--data.root", str(other_split), "--split", "train") == 2
    assert "instances_train.json: bbox of (nearly) zero width or height" in capsys.readouterr().err


@pytest.mark.usefixtures("reports_of_drivers")
def test_a_trial_of_another_machine_is_measured_on_data_of_this_one(
    folder: CheckpointFolder, smoke: TrialConfig, other_split: Path, tmp_path: Path, capsys
):
    """Its own data set is not here: what its categories are, the store says."""
    store = ResultStore.open(folder.files.root)
    gone = change(smoke, data={"root": str(tmp_path / "gone")})
    elsewhere = Trial(gone, Inputs(data="its own", data_root=str(tmp_path / "gone")))
    write_row(store, elsewhere)
    state = untrained(smoke).state_dict() | {"training_id": elsewhere.training_id}
    save(CheckpointFolder(store.files, elsewhere.training_id), state)
    arguments = (folder, tmp_path, "--data.root", str(other_split), "--split", "train")
    assert run(*arguments) == 2
    assert f"{tmp_path}/gone" in capsys.readouterr().err
    split = CocoDataset(smoke.data.root, smoke.data.val_split)
    store.write_images("its own", example_images(split))
    assert run(*arguments) == 0
    assert "AP50 " in capsys.readouterr().out
    file = other_split / "annotations" / "instances_train.json"
    whole = file.read_text()
    for change_of in ("ids", "names"):
        content = json.loads(whole)
        first, second = content["categories"][:2]
        if change_of == "ids":
            content["categories"].append({"id": 1000, "name": "another"})
            content["annotations"][0]["category_id"] = 1000
        else:
            first["name"], second["name"] = second["name"], first["name"]
        file.write_text(json.dumps(content))
        assert run(*arguments) == 2
        assert f"its categories are not those of {store.files.root}/images/" in capsys.readouterr().err


@pytest.mark.usefixtures("reports_of_drivers")
def test_each_checkpoint_has_a_results_file_of_its_own(folder: CheckpointFolder, smoke: TrialConfig, tmp_path: Path):
    save(folder, untrained(smoke, step=5))
    folder.save(untrained(smoke).state_dict(), 10, is_best=True, keep=2)
    for which in ("last", "best", "5"):
        assert run(folder, tmp_path, "--checkpoint", which) == 0
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert names == [f"detections_val_abc{which}_results.json" for which in ("-5", "-best", "")]


@pytest.mark.usefixtures("reports_of_drivers")
def test_a_storage_that_takes_no_results_file_is_the_reason(
    folder: CheckpointFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (Path(folder.files.root) / "evaluations").write_text("in the way")
    assert run(folder, tmp_path) == 1
    assert "The evaluation has failed: " in (told := capsys.readouterr().err)
    assert "evaluations/detections_val_abc_results.json cannot be written" in told
