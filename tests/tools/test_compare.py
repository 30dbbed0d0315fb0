"""The command `compare`, on a store and a split written by hand."""

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.config.stored import to_stored
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.evaluation.results_file import ResultsFileError
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.tools.compare.command import COMMAND
from tests.cli.calls import call
from tests.prepared import prepared

NUM_IMAGES = 30


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    """Thirty images with one object each."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    annotations = [
        {"id": image, "image_id": image, "category_id": 1, "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0}
        for image in range(1, NUM_IMAGES + 1)
    ]
    content = {
        "images": [
            {"id": image, "file_name": f"{image}.png", "width": 64, "height": 64} for image in range(1, NUM_IMAGES + 1)
        ],
        "categories": [{"id": 1, "name": "square"}],
        "annotations": annotations,
    }
    (tmp_path / "data" / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (tmp_path / "data" / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        (tmp_path / "data" / split).mkdir()
        for image in content["images"]:
            Image.new("RGB", (64, 64)).save(tmp_path / "data" / split / image["file_name"])
    return DataConfig(root=str(tmp_path / "data"))


def add_trial(store: ResultStore, trial: str, data: DataConfig, **changes: Any) -> None:
    row = {"trial_id": trial, "experiment": "table3", "setting": "DLA", "seed": 0, "scale": "mini", "AP": 50.0}
    row |= {"status": "finished", "num_workers": 1, "config": to_stored(prepared(TrialConfig(data=data)))}
    store.write_trial(row | {"finished_at": datetime.datetime.now(datetime.UTC)} | changes)


def add_detections(store: ResultStore, trial: str, width: float) -> None:
    """One box in each image, as high as the object and `width` pixels wide."""
    columns = {"image_id": np.arange(1, NUM_IMAGES + 1), "category_id": np.ones(NUM_IMAGES, dtype=int)}
    columns |= {"score": np.full(NUM_IMAGES, 0.9, dtype=np.float32)}
    corners = np.tile(np.array([10, 10, 10 + width, 50], dtype=np.float32), (NUM_IMAGES, 1))
    store.write_detections(trial, columns | dict(zip(("x1", "y1", "x2", "y2"), corners.T, strict=True)))


@pytest.fixture
def store(tmp_path: Path, data: DataConfig) -> ResultStore:
    """Trials `exact` and `narrow`, whose boxes have an IoU of 1 and of 31 / 40."""
    store = ResultStore.open(tmp_path / "store")
    for trial, width in (("exact", 40), ("narrow", 31)):
        add_trial(store, trial, data)
        add_detections(store, trial, width)
    return store


def run(store: ResultStore, *arguments: str) -> int:
    return call(COMMAND, *arguments, "--storage", store.files.root)


def test_it_prints_both_their_difference_and_how_it_was_measured(store: ResultStore, capsys):
    assert run(store, "narrow", "exact", "--samples", "60", "--seed", "3") == 0
    out = capsys.readouterr().out
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert lines["AP"].split() == ["AP", "60.0", "100.0", "+40.0", "[+40.0,", "+40.0]"]
    assert lines["AP75"].split()[:6] == ["AP75", "100.0", "100.0", "+0.0", "[+0.0,", "+0.0]"]
    assert lines["AP75"].endswith("cannot be told from zero")
    assert lines["AP90"].split()[:4] == ["AP90", "0.0", "100.0", "+100.0"]
    for part in ("30 images of val", "60 samples, seed 3", "paired bootstrap over images", "two trained models fixed"):
        assert part in out
    assert "A: narrow  table3, DLA, seed 0" in out


def test_it_says_which_uncertainty_the_interval_covers_and_that_two_trials_are_one_pair(store: ResultStore, capsys):
    run(store, "narrow", "exact", "--samples", "20")
    told = " ".join(capsys.readouterr().out.split())
    assert "covers which images were evaluated, not which seeds were trained" in told
    assert "Two trials are one pair" in told
    assert "not which setting is better" in told


def test_a_trial_against_itself(store: ResultStore, capsys):
    assert run(store, "exact", "exact", "--samples", "20") == 0
    assert capsys.readouterr().out.count("[+0.0, +0.0]      cannot be told from zero") == 5


def test_a_trial_that_detected_nothing_is_compared(store: ResultStore, data: DataConfig, capsys):
    add_trial(store, "blind", data, AP=0.0)
    assert run(store, "exact", "blind", "--samples", "20") == 0
    assert "-100.0   [-100.0, -100.0]" in capsys.readouterr().out


def test_a_trial_of_another_storage(store: ResultStore, data: DataConfig, tmp_path: Path, capsys):
    other = ResultStore.open(tmp_path / "other")
    add_trial(other, "there", data)
    add_detections(other, "there", 31)
    assert run(store, "exact", "there", "--storage-b", other.files.root, "--samples", "20") == 0
    of_two_stores = capsys.readouterr().out
    assert run(store, "exact", "narrow", "--samples", "20") == 0
    assert capsys.readouterr().out == of_two_stores.replace("there", "narrow")


def test_trials_of_another_machine_are_compared_where_the_data_are(store, data: DataConfig, tmp_path: Path, capsys):
    assert run(store, "exact", "narrow", "--samples", "20") == 0
    before = capsys.readouterr().out
    Path(data.root).rename(tmp_path / "here")
    with pytest.raises(DataError, match="cannot be read"):
        run(store, "exact", "narrow", "--samples", "20")
    assert run(store, "exact", "narrow", "--samples", "20", "--data.root", str(tmp_path / "here")) == 0
    assert capsys.readouterr().out == before
    (tmp_path / "here" / "val" / "1.png").write_bytes((tmp_path / "here" / "val" / "2.png").read_bytes() + b" ")
    with pytest.raises(DataError, match="fingerprint"):
        run(store, "exact", "narrow", "--data.root", str(tmp_path / "here"))


@pytest.mark.parametrize("image_id", [int, str, lambda image: f"{image}.png"])
def test_another_programs_results_are_compared_like_a_trial(store: ResultStore, tmp_path: Path, capsys, image_id):
    """YOLO names an image by its file where that is no number."""
    file = tmp_path / "detections.json"
    rows = [
        {"image_id": image_id(image), "category_id": 1, "bbox": [10, 10, 31, 40], "score": 0.9}
        for image in range(1, NUM_IMAGES + 1)
    ]
    file.write_text(json.dumps(rows))
    assert run(store, "exact", "--results", str(file), "--samples", "20") == 0
    of_file = capsys.readouterr()
    assert ("30 detections name their image as text" in of_file.err) == (image_id is not int)
    assert run(store, "exact", "narrow", "--samples", "20") == 0
    of_trial = capsys.readouterr().out
    assert of_file.out == of_trial.replace("narrow  table3, DLA, seed 0", str(file))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("{", "no readable JSON"),
        ("{}", "holds a dict; the server takes a list"),
        ('[{"image_id": 1}]', "detection 0: needs image_id, category_id, bbox and score"),
        ('[{"image_id": 99, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]', "image_id 99 is not in the split"),
        ('[{"image_id": "a", "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]', "image_id 'a' is not in the"),
        ('[{"image_id": 1, "category_id": 0, "bbox": [0, 0, 1, 1], "score": 1}]', "category_id 0 is no category"),
    ],
)
def test_results_that_do_not_fit_are_refused(store: ResultStore, tmp_path: Path, rows: str, message: str):
    (tmp_path / "detections.json").write_text(rows)
    with pytest.raises(ResultsFileError, match=message):
        run(store, "exact", "--results", str(tmp_path / "detections.json"))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["exact", "narrow", "--results", "a.json"], ConfigError, "--results: stands in place of a second trial"),
        ([], ConfigError, "trial_a: missing"),
        (["exact"], ConfigError, "trial_b: missing"),
        (["exact", "narrow", "--samples", "0"], ConfigError, "--samples: 0 must be 1 or greater"),
        (["exact", "narrow", "--seed", "-1"], ConfigError, "--seed: -1 must be 0 or greater"),
        (["exact", "unknown"], StoreError, "holds no trial 'unknown'"),
        (["failed", "exact"], StoreError, r"trial failed: has not finished \(out of memory\)"),
        (["exact", "old"], StoreError, "detections/old.parquet: is missing"),
        (["exact", "elsewhere"], ConfigError, "data.val_split: 'val' of trial exact and 'train' of elsewhere differ"),
        (["exact", "foreign"], ConfigError, "inputs.data: .* only trials with the same data"),
    ],
)
def test_mistakes_are_refused_in_one_line(store: ResultStore, data: DataConfig, arguments, error, message):
    add_trial(store, "failed", data, status="failed", error="out of memory")
    add_trial(store, "old", data)
    known = prepared(TrialConfig(data=data))
    elsewhere = Trial(TrialConfig(data=dataclasses.replace(data, val_split="train")), known.inputs)
    foreign = Trial(known.config, dataclasses.replace(known.inputs, data="0123"))
    add_trial(store, "elsewhere", data, config=to_stored(elsewhere))
    add_trial(store, "foreign", data, config=to_stored(foreign))
    with pytest.raises(error, match=message) as refused:
        run(store, *arguments)
    assert "\n" not in str(refused.value)
