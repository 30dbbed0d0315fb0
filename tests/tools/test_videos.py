"""Videos are read frame by frame, and what is missing of one can be told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.tools.predict import videos
from dynrcnn_ray.tools.predict.videos import IDS_OF_A_VIDEO, frames_of, open_videos, require_videos


def write_video(file: Path, frames: int, *, noise: int = 0) -> None:
    """Frames that are grey, each lighter than the one before, but for so much noise."""
    import av

    draw = np.random.default_rng(0)

    with av.open(str(file), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            pixels = np.full((48, 64, 3), 20 * number % 256, dtype=np.uint8)
            pixels += draw.integers(0, noise + 1, pixels.shape, dtype=np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def rows(video: videos.Video) -> list[dict[str, Any]]:
    return [row for table in frames_of(video) for row in table.to_pylist()]


def test_the_frames_of_a_video_a_few_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_video(tmp_path / "film.mp4", 5)
    monkeypatch.setattr(videos, "_MOST_BYTES_AT_ONCE", 2 * 3 * 64 * 48)
    (film,), bad = open_videos([str(tmp_path / "film.mp4")])
    assert bad == []
    assert (film.name, film.stated_frames) == ("film.mp4", 5)
    assert [len(table) for table in frames_of(film)] == [2, 2, 1]
    for number, row in enumerate(rows(film), start=1):
        assert (row["image_id"], row["file_name"], row["error"]) == (number, f"film.mp4#{number}", None)
        pixels = np.frombuffer(row["pixels"], dtype=np.uint8)
        assert len(pixels) == 3 * row["width"] * row["height"] == 3 * 64 * 48
        assert abs(float(pixels.mean()) - 20 * (number - 1)) < 5


def test_frames_of_several_videos_are_told_apart(tmp_path: Path):
    for name in ("a/film.mp4", "b/film.mp4", "b/other.avi"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_video(tmp_path / name, 3)
    (tmp_path / "b" / "broken.mp4").write_bytes(b"no video")
    paths = sorted(str(path) for path in tmp_path.rglob("*.*"))
    found, bad = open_videos(paths, after_pictures=True)
    frames = [row for video in found for row in rows(video)]
    assert [row["file_name"] for row in frames[::3]] == ["a/film.mp4#1", "b/film.mp4#1", "b/other.avi#1"]
    assert [row["image_id"] for row in frames] == [
        IDS_OF_A_VIDEO * video + number for video in (1, 2, 3) for number in (1, 2, 3)
    ]
    assert len(bad) == 1
    assert "broken.mp4' cannot be read as a video" in bad[0]
    require_videos(found, bad)
    with pytest.raises(DataError, match=r"broken\.mp4' cannot be read as a video"):
        require_videos([], bad)


@pytest.mark.parametrize("kind", ["avi", "mkv"])
def test_a_video_that_is_cut_off_gives_the_frames_that_are_there(tmp_path: Path, kind: str):
    file = tmp_path / f"film.{kind}"
    write_video(file, 40, noise=255)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    (film,), _ = open_videos([str(file)])
    read = [row for row in rows(film) if row["error"] is None]
    assert 0 < len(read) < 40
    if kind == "avi":
        assert film.stated_frames == 40
