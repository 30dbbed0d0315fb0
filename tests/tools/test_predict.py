"""A trained trial is used on pictures: the detections are those of its evaluation, bad files are skipped."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools.coco import COCO

from benchmarks.prediction import measure_prediction
from benchmarks.schema import BENCHMARKS
from benchmarks.workbench import Workbench
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.data.shapes import CATEGORIES
from dynrcnn_ray.execution.checkpoints import CheckpointFolder
from dynrcnn_ray.execution.cluster import ray_cluster
from dynrcnn_ray.store.files import StoreFiles
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.tools.predict.command import COMMAND
from dynrcnn_ray.tools.predict.detecting_actor import DetectingActor
from dynrcnn_ray.tools.predict.output_folder import OutputError
from dynrcnn_ray.tools.predict.pictures import find_pictures, printable
from dynrcnn_ray.tools.predict.prediction import Prediction, predict_pictures
from dynrcnn_ray.tools.predict.predictions import PICTURE, PREDICTIONS, PredictionFiles
from dynrcnn_ray.tools.predict.videos import open_videos
from tests.cli.calls import call
from tests.prepared import prepared
from tests.tools.test_predictions import FOUND
from tests.tools.test_videos import write_video
from tests.training.test_trial import change

Trained = tuple[Path, TrialConfig]


def checkpoint_of(trained: Trained) -> dict[str, Any]:
    folder, config = trained
    checkpoints = CheckpointFolder(StoreFiles.open(folder), prepared(config).training_id)
    return checkpoints.require("last", last_step=config.total_steps)[0]


def actor(trained: Trained, drawings: str = "", min_score: float = 0.0) -> DetectingActor:
    _, config = trained
    described: dict[str, Any] = {"trial": prepared(config), "training_id": prepared(config).training_id}
    described |= {"checkpoint": checkpoint_of(trained), "category_names": CATEGORIES, "source": ""}
    return DetectingActor(described | {"min_score": min_score, "drawings": drawings})


def rows_of(paths: list[str]) -> pa.Table:
    return pa.Table.from_pylist([{"image_id": at, "path": os.fsencode(path)} for at, path in enumerate(paths, start=1)])


def a_picture(trained: Trained) -> bytes:
    _, config = trained
    return sorted((Path(config.data.root) / "val").glob("*.jpg"))[0].read_bytes()


def test_the_detections_are_those_of_the_evaluation(trained: Trained, tmp_path: Path):
    folder, config = trained
    split = CocoDataset(config.data.root, "val")
    paths = [str(Path(config.data.root) / "val" / name) for name in split.file_names]
    found = actor(trained)(rows_of(paths)).to_pylist()
    stored = ResultStore.open(folder).detections([prepared(config).trial_id])
    for picture, image_id in zip(found, split.image_ids, strict=True):
        of_image = stored[stored["image_id"] == image_id]
        assert picture["error"] is None
        assert picture["category_ids"] == of_image["category_id"].tolist()
        # There the images go through the model a few at a time.
        np.testing.assert_allclose(picture["scores"], of_image["score"], atol=1e-4)
        np.testing.assert_allclose(picture["boxes"], of_image[["x1", "y1", "x2", "y2"]], atol=1e-2)
    few = actor(trained, min_score=0.3)(rows_of(paths)).to_pylist()
    kept = [[score for score in picture["scores"] if score >= 0.3] for picture in found]
    assert [picture["scores"] for picture in few] == kept


def test_bad_files_are_listed_and_the_rest_is_written(trained: Trained, tmp_path: Path):
    _, config = trained
    good = sorted((Path(config.data.root) / "val").glob("*.jpg"))[0]
    (tmp_path / "bad.jpg").write_text("nothing")
    with PredictionFiles(tmp_path / "out", CATEGORIES) as files:
        detecting = actor(trained, drawings=str(files.drawings))
        table = detecting(rows_of([str(tmp_path / "bad.jpg"), str(good), str(tmp_path / "gone.jpg")]))
        files.add(table)
        files.add(table.slice(0, 0))
    assert (files.pictures, files.done, len(files.bad)) == (1, 3, 2)
    listed = (tmp_path / "out" / "bad_files.txt").read_text().splitlines()
    assert [line.partition(": ")[2] for line in listed] == ["no picture of a known kind", "No such file or directory"]
    truth = COCO(tmp_path / "out" / "images.json")
    results = truth.loadRes(str(tmp_path / "out" / "results.json"))
    assert len(results.anns) == files.detections > 0
    assert truth.imgs[2]["file_name"] == str(good)
    written = pq.read_table(tmp_path / "out" / "detections.parquet")
    assert written.schema.equals(PREDICTIONS)
    assert written["category"].to_pylist() == [CATEGORIES[each] for each in written["category_id"].to_pylist()]
    first = results.anns[1]
    row = written.to_pylist()[0]
    assert first["bbox"] == pytest.approx(
        [row["x1"], row["y1"], row["x2"] - row["x1"], row["y2"] - row["y1"]], abs=1e-2
    )
    assert [file.name for file in (tmp_path / "out" / "pictures").iterdir()] == [f"00000002_{good.stem}.jpg"]


def test_no_picture_costs_another(trained: Trained, tmp_path: Path):
    """Whatever its sides and its name are: it is there, or a line of `bad_files.txt` names it."""
    folder = os.fsencode(tmp_path)
    names = [b"n" * 246 + b".jpg", b"caf\xe9.jpg", b"a\nb.jpg", "ünï.jpg".encode(), b"good.jpg"]
    for name in names:
        Path(os.fsdecode(folder + b"/" + name)).write_bytes(a_picture(trained))
    sizes = {"flat": (3000, 2), "thin": (1, 500), "dot": (1, 1), "wide": (66_000, 40)}
    for name, size in sizes.items():
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    listing = find_pictures(str(tmp_path))
    assert len(listing.paths) == len(names) + len(sizes)
    with PredictionFiles(tmp_path / "out", CATEGORIES) as files:
        files.add(actor(trained, drawings=str(files.drawings))(rows_of(listing.paths)))
    images = json.loads((tmp_path / "out" / "images.json").read_text())["images"]
    lines = (tmp_path / "out" / "bad_files.txt").read_text(encoding="utf-8").splitlines()
    assert lines == files.bad
    there = {image["file_name"] for image in images}
    for path in listing.paths:
        assert (printable(path) in there) or any(line.startswith(printable(path)) for line in lines)
    assert {printable(os.fsdecode(folder + b"/" + name)) for name in names} <= there
    drawn = list((tmp_path / "out" / "pictures").iterdir())
    undrawn = [line for line in lines if "detected on, but not drawn" in line]
    assert len(drawn) + len(undrawn) == len(there)
    if str(tmp_path / "wide.png") in there:
        assert [line.startswith(str(tmp_path / "wide.png")) for line in undrawn] == [True]


def test_what_is_wrong_is_reported_before_anything_starts(trained: Trained, tmp_path: Path):
    folder, config = trained
    own = (prepared(config).trial_id, "--storage", str(folder), "--output", str(tmp_path / "out"))
    images = tmp_path / "images"
    images.mkdir()
    with pytest.raises(ConfigError, match="--images: missing"):
        call(COMMAND, *own)
    with pytest.raises(ConfigError, match=r"--score: 2\.0 must be from 0 to 1"):
        call(COMMAND, *own, "--images", str(images), "--score", "2")
    with pytest.raises(DataError, match="holds no pictures"):
        call(COMMAND, *own, "--images", str(images))
    (images / "broken.mp4").write_bytes(b"no video")
    (images / "more.mp4").write_bytes(b"none either")
    for video in (str(images / "broken.mp4"), (images / "broken.mp4").as_uri(), str(images / "b*.mp4"), str(images)):
        with pytest.raises(DataError, match=r"broken\.mp4' cannot be read as a video"):
            call(COMMAND, *own, "--images", video)
    with pytest.raises(ConfigError, match="trial, --weights: missing"):
        call(COMMAND, "--images", str(images))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["images"]
    (tmp_path / "file").write_text("mine")
    for output in ("file", "file/below", "images", "/proc/nowhere"):
        with pytest.raises(OutputError, match="--output: "):
            call(COMMAND, *own, "--images", "nowhere", "--output", str(tmp_path / output))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with ray_cluster():
        yield


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_a_benchmark_of_it_has_all_pictures_on_both_sides(smoke: TrialConfig, tmp_path: Path):
    rows = list(measure_prediction(Workbench(smoke, smoke, tmp_path), rounds=1, pictures=16, warm_up=0))
    assert [row["name"].removeprefix("predict.") for row in rows] == [
        "one_worker",
        "one_worker.cpu",
        "two_workers_loop",
        "two_workers",
        "two_workers.cpu",
    ]
    for row in rows:
        assert set(row) <= set(BENCHMARKS.names)
        assert row["ratio"] > 0
    by_ray = json.loads((tmp_path / "prediction" / "out" / "results.json").read_text())
    in_a_loop = json.loads((tmp_path / "results.json").read_text())
    assert [row["image_id"] for row in by_ray] == [row["image_id"] for row in in_a_loop]
    np.testing.assert_allclose([row["score"] for row in by_ray], [row["score"] for row in in_a_loop], atol=1e-4)


HEIGHT, WIDTH = DEADLY = (33, 47)
KILLS = f"""
import os, signal
from dynrcnn_ray.models.detector import build_model as packaged

def build_model(config, num_classes, dynamic):
    model = packaged(config, num_classes, dynamic)

    def kill(model, arguments):
        if tuple(arguments[0][0].shape[-2:]) == {DEADLY}:
            os.kill(os.getpid(), signal.SIGKILL)

    model.register_forward_pre_hook(kill)
    return model
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_picture_that_kills_is_tried_three_times_and_costs_no_other(trained: Trained, tmp_path: Path):
    """As where it takes more memory than there is. With one worker all that is in flight dies with it."""
    _, config = trained
    module = tmp_path / "kills.py"
    module.write_text(KILLS)
    killing = change(config, model={"module": str(module)}, run={"num_workers": 1})
    paths = []
    for number in range(24):
        paths.append(str(tmp_path / f"{number:02d}.png"))
        Image.new("RGB", (WIDTH, HEIGHT) if number == 5 else (64, 64)).save(paths[-1])
    with PredictionFiles(tmp_path / "out", CATEGORIES) as files:
        what = Prediction(prepared(killing), prepared(config).training_id, CATEGORIES, checkpoint_of(trained), 0.05, "")
        predict_pictures(what, paths, files, lambda line: None)
    assert (files.pictures, files.done) == (23, 24)
    lines = (tmp_path / "out" / "bad_files.txt").read_text().splitlines()
    assert [line.partition(": ")[0] for line in lines] == [paths[5]]
    assert "was killed each time, of three" in lines[0]
    images = json.loads((tmp_path / "out" / "images.json").read_text())["images"]
    assert sorted(image["file_name"] for image in images) == paths[:5] + paths[6:]


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_a_refused_call_leaves_earlier_output_and_nothing_else(trained: Trained, tmp_path: Path):
    folder, config = trained
    with PredictionFiles(tmp_path / "out", CATEGORIES) as files:
        files.add(pa.Table.from_pylist([FOUND], schema=PICTURE))
    before = (tmp_path / "out" / "results.json").read_text()
    (tmp_path / "a.jpg").write_bytes(a_picture(trained))
    own = (prepared(config).trial_id, "--storage", str(folder), "--output", str(tmp_path / "out"))
    with pytest.raises(ConfigError, match=r"run\.num_workers: .* do not fit"):
        call(COMMAND, *own, "--images", str(tmp_path / "a.jpg"), "--run.cpus-per-worker", "1000")
    assert (tmp_path / "out" / "results.json").read_text() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.jpg", "out"]


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_the_command_on_a_cluster(trained: Trained, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    folder, config = trained
    images = tmp_path / "images"
    images.mkdir()
    for number, file in enumerate(sorted((Path(config.data.root) / "val").glob("*.jpg"))):
        (images / f"{number}.jpg").write_bytes(file.read_bytes())
    (images / "broken.jpg").write_bytes(b"x")
    (images / ".hidden.jpg").write_bytes(b"x")
    (images / "notes.txt").write_bytes(b"x")
    options = (
        prepared(config).trial_id,
        "--storage",
        str(folder),
        "--score",
        "0.05",
        "--checkpoint",
        "best",
    )
    # Below the images, and twice: neither is it read, nor do two calls mix.
    out = images / "out"
    for more in (["--no-pictures"], []):
        assert call(COMMAND, *options, "--images", str(images), "--output", str(out), *more) == 0
        assert (out / "pictures").exists() != bool(more)
        (images / "7.jpg").unlink(missing_ok=True)
    printed = capfd.readouterr()
    assert "9/9 pictures" in printed.err
    assert "left out: 2 files that are hidden or no pictures by their names (1 .txt, 1 hidden)" in printed.err
    assert "skipped: " in printed.err
    assert "core_worker.cc" not in printed.err
    assert "detections in 8 pictures" in printed.out
    assert "detections in 7 pictures" in printed.out
    rows = json.loads((out / "results.json").read_text())
    ids = [row["image_id"] for row in rows]
    assert ids == sorted(ids), "in the pictures' order"
    assert len(list((out / "pictures").glob("*.jpg"))) == len(list((out / "pictures").iterdir())) == 7
    assert not out.with_name("out.partial").exists()


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_pictures_and_videos_by_a_pattern(trained: Trained, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    folder, config = trained
    (tmp_path / "a.jpg").write_bytes(a_picture(trained))
    write_video(tmp_path / "b.mp4", 4)
    write_video(tmp_path / "c.avi", 40, noise=255)
    whole = (tmp_path / "c.avi").read_bytes()
    (tmp_path / "c.avi").write_bytes(whole[: len(whole) // 2])
    options = (prepared(config).trial_id, "--storage", str(folder), "--score", "0.05")
    assert call(COMMAND, *options, "--images", str(tmp_path / "?.*"), "--output", str(tmp_path / "out")) == 0
    images = json.loads((tmp_path / "out" / "images.json").read_text())["images"]
    names = [image["file_name"] for image in images]
    assert names[:5] == [str(tmp_path / "a.jpg"), *(f"b.mp4#{number}" for number in range(1, 5))]
    of_half = names[5:]
    assert of_half == [f"c.avi#{number}" for number in range(1, len(of_half) + 1)]
    assert 0 < len(of_half) < 40
    assert len({image["id"] for image in images}) == len(images)
    assert f"{tmp_path / 'c.avi'}: {40 - len(of_half)} of its 40 frames are missing" in capfd.readouterr().err
    assert [file.name for file in (tmp_path / "out" / "pictures").iterdir()] == ["00000001_a.jpg"]
    for name, frames in (("1_b.mp4", 4), ("2_c.mp4", len(of_half))):
        (drawn,), _ = open_videos([str(tmp_path / "out" / "videos" / name)])
        assert (drawn.stated_frames, drawn.frames_a_second) == (frames, 5)
