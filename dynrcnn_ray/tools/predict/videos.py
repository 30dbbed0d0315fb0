"""Videos, read frame by frame."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from dynrcnn_ray.config.errors import one_line
from dynrcnn_ray.config.extras import import_extra
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.tools.predict.pictures import printable

IDS_OF_A_VIDEO = 10**8
"""A frame's id is its number, from 1, and so many more for each video before."""
_MOST_FRAMES_AT_ONCE = 8
_MOST_BYTES_AT_ONCE = 2**26

FRAME = pa.schema(
    [
        pa.field("image_id", pa.int64()),
        pa.field("file_name", pa.string()),
        pa.field("width", pa.int64()),
        pa.field("height", pa.int64()),
        pa.field("pixels", pa.large_binary()),
        pa.field("error", pa.string()),
    ]
)
"""A frame: RGB `[height, width, 3]`. `error` says why it and those after it cannot be read."""


@dataclass(frozen=True)
class Video:
    """A video that can be read.

    Attributes:
        path: its file's.
        name: what its frames are called by.
        first_id: the id of its first frame.
        stated_frames: how many frames its header says it has; 0 if that is not known.
        frame_bytes: of one frame's pixels.
        frames_a_second: as its header says; 0 if that is not known.
    """

    path: str
    name: str
    first_id: int
    stated_frames: int
    frame_bytes: int
    frames_a_second: float = 0.0

    @property
    def frames_at_once(self) -> int:
        """How many take few bytes."""
        return max(1, min(_MOST_FRAMES_AT_ONCE, _MOST_BYTES_AT_ONCE // max(1, self.frame_bytes)))


def open_videos(paths: Sequence[str], *, after_pictures: bool = False) -> tuple[list[Video], list[str]]:
    """Look into videos.

    Args:
        paths: of `pictures.Listing`.
        after_pictures: whether ids below `IDS_OF_A_VIDEO` are taken.

    Returns:
        Those that can be read, and a line for each of the others.

    Raises:
        MissingExtraError: supervision is not installed.
    """
    if not paths:
        return [], []
    supervision = import_extra("supervision", "predict")
    # As short as tells them apart.
    above = os.path.commonpath([os.path.dirname(path) for path in paths])
    videos: list[Video] = []
    bad: list[str] = []
    for path in paths:
        try:
            info = supervision.VideoInfo.from_video_path(path)
        except Exception as error:  # Supervision raises no type of its own.
            what = "copy it to a file" if "://" in path else "it is damaged, or of a codec that is not known here"
            bad.append(f"{printable(path)!r} cannot be read as a video ({printable(str(error))}); {what}")
            continue
        first_id = 1 + IDS_OF_A_VIDEO * (len(videos) + after_pictures)
        name = printable(os.path.relpath(path, above))
        stated = max(0, info.total_frames or 0)
        rate = info.fps if math.isfinite(info.fps) and info.fps > 0 else 0.0
        frame_bytes = 3 * info.width * info.height
        videos.append(Video(path, name, first_id, stated, frame_bytes, rate))
    return videos, bad


def require_videos(videos: Sequence[Video], bad: Sequence[str]) -> None:
    """Refuse what `open_videos` found if there is nothing but videos that cannot be read.

    Raises:
        DataError: there is nothing else.
    """
    if bad and not videos:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise DataError(f"--images: {bad[0]}{more}")


def frames_of(video: Video) -> Iterator[pa.Table]:
    """The frames, a few at once, so that a video of any length fits in memory; rows of `FRAME`."""
    supervision = import_extra("supervision", "predict")
    rows: list[dict[str, Any]] = []
    read = 0
    try:
        for pixels in supervision.get_video_frames_generator(video.path):
            # Supervision's frames are BGR.
            rgb = np.ascontiguousarray(pixels[:, :, ::-1])
            own = {"image_id": video.first_id + read, "file_name": f"{video.name}#{read + 1}"}
            rows.append(own | {"width": rgb.shape[1], "height": rgb.shape[0], "pixels": rgb.tobytes(), "error": None})
            read += 1
            if len(rows) == video.frames_at_once:
                yield pa.Table.from_pylist(rows, schema=FRAME)
                rows = []
    except Exception as error:  # A decoder raises nearly anything on broken bytes.
        text = one_line(error, 120)
        own = {"image_id": video.first_id + read, "file_name": f"{video.name}#{read + 1}"}
        rows.append(own | {"width": None, "height": None, "pixels": None, "error": text})
    if rows:
        yield pa.Table.from_pylist(rows, schema=FRAME)
