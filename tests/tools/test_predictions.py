"""An output of `predict` is there whole or not at all, and replaces an earlier one whole."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dynrcnn_ray.tools.predict.output_folder import OutputError
from dynrcnn_ray.tools.predict.predictions import PICTURE, PredictionFiles

NAMES = {1: "cat"}
FOUND: dict[str, Any] = {"image_id": 1, "file_name": "a.jpg", "width": 9, "height": 9}
FOUND |= {"category_ids": [1], "scores": [0.5], "boxes": [[1.0, 2.0, 3.0, 4.0]]}


def write(folder: Path, drawing: str = "00000001_a.jpg") -> PredictionFiles:
    with PredictionFiles(folder, NAMES) as files:
        files.add(pa.Table.from_pylist([FOUND], schema=PICTURE))
        files.drawings.mkdir()
        (files.drawings / drawing).write_bytes(b"x")
    return files


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_an_earlier_output_is_replaced_whole(tmp_path: Path):
    write(tmp_path / "out", "00000007_earlier.jpg")
    assert write(tmp_path / "out").folder == tmp_path / "out"
    assert names_in(tmp_path) == ["out"]
    assert names_in(tmp_path / "out") == [
        *("bad_files.txt", "detections.parquet", "images.json", "pictures", "results.json")
    ]
    assert names_in(tmp_path / "out" / "pictures") == ["00000001_a.jpg"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    write(tmp_path / "link")
    assert "results.json" in names_in(tmp_path / "empty")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_what_was_found_before_an_error_stays_aside_as_whole_files(tmp_path: Path, error: type[BaseException]):
    write(tmp_path / "out", "00000007_earlier.jpg")

    def end_in_the_middle() -> None:
        with PredictionFiles(tmp_path / "out", NAMES) as files:
            files.add(pa.Table.from_pylist([FOUND | {"file_name": "new.jpg"}], schema=PICTURE))
            raise error

    with pytest.raises(error) as caught:
        end_in_the_middle()
    partial = tmp_path / "out.partial"
    assert f"what was found so far is in {partial}" in caught.value.__notes__[0]
    assert json.loads((partial / "images.json").read_text())["images"][0]["file_name"] == "new.jpg"
    assert len(json.loads((partial / "results.json").read_text())) == 1
    assert names_in(tmp_path / "out" / "pictures") == ["00000007_earlier.jpg"]
    write(tmp_path / "out")
    assert names_in(tmp_path) == ["out"]


def test_a_call_that_finds_no_picture_leaves_an_earlier_output(tmp_path: Path):
    write(tmp_path / "out")
    with PredictionFiles(tmp_path / "out", NAMES) as files:
        files.add(pa.Table.from_pylist([{"image_id": 1, "file_name": "a\nb", "error": "bad"}], schema=PICTURE))
    assert files.folder == tmp_path / "out.partial"
    assert (files.folder / "bad_files.txt").read_text() == "a\\nb: bad\n"
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())) == 1
    with pytest.raises(KeyboardInterrupt), PredictionFiles(tmp_path / "out", NAMES):
        raise KeyboardInterrupt
    assert names_in(tmp_path) == ["out"]


KILLED = """
import os, signal, sys
from pathlib import Path
import pyarrow as pa
from dynrcnn_ray.tools.predict.predictions import PICTURE, PredictionFiles
from tests.tools.test_predictions import FOUND, NAMES
with PredictionFiles(Path(sys.argv[1]), NAMES) as files:
    for _ in range(1000):
        files.add(pa.Table.from_pylist([FOUND], schema=PICTURE))
    print("written", flush=True)
    sys.stdin.readline()
"""


def test_a_killed_call_leaves_no_torn_files_where_the_output_belongs(tmp_path: Path):
    write(tmp_path / "out")
    before = (tmp_path / "out" / "images.json").read_text()
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    killed = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "out")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
        text=True,
    )
    assert killed.stdout is not None
    assert killed.stdout.readline() == "written\n"
    with (
        pytest.raises(OutputError, match=r"another call writes to .*/out just now"),
        PredictionFiles(tmp_path / "out", NAMES),
    ):
        pass
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert (tmp_path / "out" / "images.json").read_text() == before
    assert names_in(tmp_path) == ["out", "out.partial"]
    write(tmp_path / "out")
    assert names_in(tmp_path) == ["out"]


def test_what_cannot_be_an_output_is_refused_and_left(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "mine" / "pictures").mkdir(parents=True)
    (tmp_path / "mine" / "pictures" / "a.jpg").write_bytes(b"mine")
    write(tmp_path / "mixed")
    (tmp_path / "mixed" / "pictures" / "holiday.jpg").write_bytes(b"mine")
    write(tmp_path / "noted")
    (tmp_path / "noted" / "notes.txt").write_bytes(b"mine")
    (tmp_path / "aside.partial").mkdir()
    (tmp_path / "aside.partial" / "a.txt").write_bytes(b"mine")
    before = sorted(tmp_path.rglob("*"))
    for name, why in {
        "file": "file is a file; give a folder",
        "file/below/it": "file is a file; give a folder",
        "mine": r"mine holds what no earlier call has written \(pictures/a\.jpg\)",
        "mixed": r"mixed holds what no earlier call has written \(pictures/holiday\.jpg\)",
        "noted": r"noted holds what no earlier call has written \(notes\.txt\)",
        "aside": r"aside\.partial, where it would be built, holds something else \(a\.txt\)",
        "x" * 250: "File name too long",
        "/proc/nowhere": "/proc/nowhere cannot be made in /proc: ",
        "/proc": "",
        "/": "",
    }.items():
        with pytest.raises(OutputError, match=f"^--output: .*{why}"), PredictionFiles(tmp_path / name, NAMES):
            pass
    assert sorted(tmp_path.rglob("*")) == before
