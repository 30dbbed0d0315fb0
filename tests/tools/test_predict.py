"""A trained trial is used on pictures: the detections are those of its evaluation, bad files are skipped."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pycocotools.coco import COCO

from benchmarks.prediction import measure_prediction
from benchmarks.schema import BENCHMARKS
from benchmarks.workbench import Workbench
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError, to_yaml
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.data.shapes import CATEGORIES
from dynrcnn_ray.execution.cluster import ray_cluster
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.tools.predict import prediction
from dynrcnn_ray.tools.predict.command import COMMAND
from dynrcnn_ray.tools.predict.prediction import DetectingActor
from dynrcnn_ray.tools.predict.predictions import PREDICTIONS, PredictionFiles
from tests.cli.calls import call

Trained = tuple[Path, TrialConfig]


def actor(trained: Trained, pictures: str = "", min_score: float = 0.0) -> DetectingActor:
    folder, config = trained
    described: dict[str, Any] = {"config": to_yaml(config), "training_id": config.training_id}
    described |= {"storage": str(folder), "checkpoint": "last", "category_names": CATEGORIES, "source": ""}
    return DetectingActor(described | {"min_score": min_score, "pictures": pictures})


def rows_of(paths: list[str]) -> pa.Table:
    return pa.Table.from_pylist([{"image_id": at, "file_name": path} for at, path in enumerate(paths, start=1)])


def test_the_detections_are_those_of_the_evaluation(trained: Trained, tmp_path: Path):
    folder, config = trained
    split = CocoDataset(config.data.root, "val")
    paths = [str(Path(config.data.root) / "val" / name) for name in split.file_names]
    found = actor(trained)(rows_of(paths)).to_pylist()
    stored = ResultStore.open(folder).detections([config.trial_id])
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
    detecting = actor(trained, pictures=str(tmp_path / "drawn"))
    table = detecting(rows_of([str(tmp_path / "bad.jpg"), str(good), str(tmp_path / "gone.jpg")]))
    with PredictionFiles(tmp_path / "out", CATEGORIES) as files:
        files.add(table)
        files.add(table.slice(0, 0))
    assert (files.pictures, len(files.bad)) == (1, 2)
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
    assert [file.name for file in (tmp_path / "drawn").glob("*.jpg")] == [f"00000002_{good.stem}.jpg"]


def test_few_pictures_are_read_before_their_turn(trained: Trained, monkeypatch: pytest.MonkeyPatch):
    """A block has 128, and as many large photographs at once are gigabytes."""
    read: list[str] = []
    taken: list[int] = []

    def reading(row: dict[str, Any], source: None) -> tuple[None, str]:
        read.append(row["file_name"])
        return None, "not read"

    def found(_actor: DetectingActor, row: dict[str, Any], pixels: None, error: str) -> dict[str, Any]:
        time.sleep(0.01)  # The readers are faster.
        taken.append(len(read))
        return {"image_id": row["image_id"], "file_name": row["file_name"], "error": error}

    monkeypatch.setattr(prediction, "_read", reading)
    monkeypatch.setattr(DetectingActor, "_found", found)
    names = [f"{number}.jpg" for number in range(20)]
    assert actor(trained)(rows_of(names))["file_name"].to_pylist() == names
    assert all(ahead <= at + 4 for at, ahead in enumerate(taken))
    assert max(ahead - at for at, ahead in enumerate(taken)) == 4


def test_what_is_wrong_is_said_before_anything_starts(trained: Trained, tmp_path: Path):
    folder, config = trained
    own = ("--trial", config.trial_id, "--storage", str(folder))
    with pytest.raises(ConfigError, match="--images: missing"):
        call(COMMAND, *own)
    with pytest.raises(ConfigError, match=r"--score: 2\.0 must be from 0 to 1"):
        call(COMMAND, *own, "--images", str(tmp_path), "--score", "2")
    with pytest.raises(DataError, match="holds no pictures"):
        call(COMMAND, *own, "--images", str(tmp_path))
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    for video in (str(tmp_path / "broken.mp4"), (tmp_path / "broken.mp4").as_uri()):
        with pytest.raises(DataError, match=r"broken\.mp4' cannot be read as a video"):
            call(COMMAND, *own, "--images", video, "--output", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="--trial: '' must be the id"):
        call(COMMAND, "--images", str(tmp_path))


def write_video(file: Path, frames: int) -> None:
    import av

    with av.open(str(file), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            pixels = np.full((48, 64, 3), 20 * number % 256, dtype=np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def test_the_frames_of_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_video(tmp_path / "film.mp4", 5)
    monkeypatch.setattr(prediction, "_FRAMES_AT_ONCE", 2)
    tables = list(prediction._frames(pa.table({"file_name": [str(tmp_path / "film.mp4")]})))
    assert [len(table) for table in tables] == [2, 2, 1]
    frames = [row for table in tables for row in table.to_pylist()]
    assert [row["file_name"] for row in frames] == [f"film.mp4#{number}" for number in range(1, 6)]
    for number, row in enumerate(frames):
        pixels, error = prediction._read(row, None)
        assert error == ""
        assert pixels is not None
        assert pixels.shape == (48, 64, 3)
        assert abs(float(pixels.mean()) - 20 * number) < 5


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with ray_cluster():
        yield


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_the_frames_of_a_video_are_handed_out_a_few_at_once(tmp_path: Path):
    write_video(tmp_path / "film.mp4", 40)
    frames = prediction._frames_of_video(str(tmp_path / "film.mp4"), bytes_of_frame=3 * 64 * 48)
    blocks = [table["image_id"].to_pylist() for table in frames.iter_batches(batch_size=None, batch_format="pyarrow")]
    assert sorted(number for block in blocks for number in block) == list(range(1, 41))
    assert max(map(len, blocks)) <= 16, "some 8, as a frame holds a little more than its pixels"


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


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_the_command_on_a_cluster(trained: Trained, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    folder, config = trained
    images = tmp_path / "images"
    images.mkdir()
    for number, file in enumerate(sorted((Path(config.data.root) / "val").glob("*.jpg"))):
        (images / f"{number}.jpg").write_bytes(file.read_bytes())
    (images / "broken.jpg").write_bytes(b"x")
    options = ("--trial", config.trial_id, "--storage", str(folder), "--score", "0.05", "--checkpoint", "best")
    assert call(COMMAND, *options, "--images", str(images), "--output", str(tmp_path / "out")) == 0
    printed = capfd.readouterr()
    assert "9/9 pictures" in printed.err
    assert "skipped: " in printed.err
    assert "detections in 8 pictures" in printed.out
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    ids = [row["image_id"] for row in rows]
    assert ids == sorted(ids), "in the pictures' order"
    assert len(list((tmp_path / "out" / "pictures").glob("*.jpg"))) == 8
    write_video(tmp_path / "film.mp4", 4)
    options = (*options, "--no-pictures", "--images", str(tmp_path / "film.mp4"))
    assert call(COMMAND, *options, "--output", str(tmp_path / "film")) == 0
    names = [image["file_name"] for image in json.loads((tmp_path / "film" / "images.json").read_text())["images"]]
    assert names == [f"film.mp4#{number}" for number in range(1, 5)]
