"""A video with what was found: as many frames, as fast, as large; whatever is found in some of them or not."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa

from dynrcnn_ray.tools.predict.drawing import Painter
from dynrcnn_ray.tools.predict.drawn_video import DrawnVideo
from dynrcnn_ray.tools.predict.predictions import PICTURE
from dynrcnn_ray.tools.predict.videos import FRAME, Video, frames_of, open_videos
from tests.tools.test_videos import write_video


def read(file: Path) -> tuple[list[np.ndarray], float, str]:
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert stream.average_rate is not None
        return frames, float(stream.average_rate), stream.codec_context.name


def found_in(block: pa.Table, **more: Any) -> pa.Table:
    """A red box in each frame."""
    painter = Painter({1: "cat"})
    rows = []
    for frame in block.to_pylist():
        pixels = np.frombuffer(frame["pixels"], dtype=np.uint8).reshape(frame["height"], frame["width"], 3)
        boxes, scores, ids = np.array([[8.0, 20.0, 56.0, 44.0]]), np.array([0.9]), np.array([1])
        drawn = painter.draw(pixels, boxes, scores, ids, None)
        rows.append({"image_id": frame["image_id"], "file_name": frame["file_name"], "drawn": drawn} | more)
    return pa.Table.from_pylist(rows, schema=PICTURE)


def test_a_drawn_video_has_the_frames_of_the_video_with_boxes(tmp_path: Path):
    write_video(tmp_path / "film.mp4", 6)
    (film,), _ = open_videos([str(tmp_path / "film.mp4")])
    assert film.frames_a_second == 5
    drawn = DrawnVideo(tmp_path / "videos" / "1_film.mp4", film)
    blocks = [table.slice(at, 2) for table in frames_of(film) for at in range(0, len(table), 2)]
    drawn.add(blocks[0], found_in(blocks[0]))
    # Their process died: as they were.
    drawn.add(blocks[1], None)
    # Detected on, and not drawn.
    drawn.add(blocks[2], found_in(blocks[2], drawn=None))
    drawn.close()
    assert drawn.error == ""
    frames, rate, codec = read(tmp_path / "videos" / "1_film.mp4")
    assert (len(frames), rate, codec) == (6, 5, "h264")
    assert frames[0].shape == (48, 64, 3)
    for number, (frame, plain) in enumerate(zip(frames, read(tmp_path / "film.mp4")[0], strict=True)):
        differs = np.abs(frame.astype(int) - plain).max(axis=2) > 60
        assert differs[20:44, 8:56].any() == (number < 2), number
        assert not differs[46:].any()


def test_sides_may_be_odd_and_a_rate_may_be_unknown(tmp_path: Path):
    pixels = np.full((33, 45, 3), 120, dtype=np.uint8)
    row = {"image_id": 1, "file_name": "f#1", "width": 45, "height": 33, "pixels": pixels.tobytes(), "error": None}
    broken = {"image_id": 2, "file_name": "f#2", "width": None, "height": None, "pixels": None, "error": "cut"}
    drawn = DrawnVideo(tmp_path / "v" / "1_f.mp4", Video("f", "f", 1, 2, pixels.nbytes))
    drawn.add(pa.Table.from_pylist([row, broken], schema=FRAME), None)
    drawn.close()
    frames, rate, _ = read(tmp_path / "v" / "1_f.mp4")
    assert (len(frames), frames[0].shape, rate) == (1, (32, 44, 3), 25)


def test_a_video_that_cannot_be_written_costs_no_detection(tmp_path: Path):
    write_video(tmp_path / "film.mp4", 2)
    (film,), _ = open_videos([str(tmp_path / "film.mp4")])
    (tmp_path / "videos").write_text("a file")
    drawn = DrawnVideo(tmp_path / "videos" / "1_film.mp4", film)
    for block in frames_of(film):
        drawn.add(block, found_in(block))
    drawn.close()
    assert "File exists" in drawn.error
