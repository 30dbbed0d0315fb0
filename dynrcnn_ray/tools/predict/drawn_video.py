"""A video with what was found in its frames, written frame by frame."""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from dynrcnn_ray.config.errors import one_line
from dynrcnn_ray.config.extras import import_extra
from dynrcnn_ray.tools.predict.videos import Video

_CODECS = ("avc1", "mp4v")
"""H.264, which browsers and players show; where OpenCV is installed without it, MPEG-4."""
_FRAMES_A_SECOND = 25.0
"""Where the video does not say."""


class DrawnVideo:
    """An .mp4 of a video's frames with the boxes and masks on them, without its sound.

    A frame that was not detected on is as it was; one that cannot be read is missing. H.264 has even sides: of an odd
    one the last line of pixels is left out.

    Attributes:
        error: why the file could not be written to its end; empty while it can.
    """

    def __init__(self, file: Path, video: Video) -> None:
        """Nothing is written before the first frame.

        Args:
            file: where to write; its folder is made.
            video: what it shows.
        """
        self.error = ""
        self._file, self._video = file, video
        self._sink: Any = None
        self._size = (0, 0)

    def add(self, block: pa.Table, found: pa.Table | None) -> None:
        """Write the next frames.

        Args:
            block: the frames, rows of `videos.FRAME`.
            found: what was found in them, rows of `predictions.PICTURE`; None if their process died.
        """
        if self.error:
            return
        drawings = [None] * len(block) if found is None else found["drawn"].to_pylist()
        try:
            for frame, drawing in zip(block.to_pylist(), drawings, strict=True):
                if drawing is not None:
                    self._write(np.array(Image.open(io.BytesIO(drawing)).convert("RGB")))
                elif frame["pixels"] is not None:
                    shape = (frame["height"], frame["width"], 3)
                    self._write(np.frombuffer(frame["pixels"], dtype=np.uint8).reshape(shape))
        except Exception as error:  # Whatever the encoder raises; the detections have nothing to do with it.
            self.error = one_line(error, 200)

    def close(self) -> None:
        """Complete the file; it is removed if it cannot be."""
        try:
            if self._sink is not None:
                self._sink.__exit__(None, None, None)
        except Exception as error:  # As in `add`.
            self.error = self.error or one_line(error, 200)
        if self.error:
            with contextlib.suppress(OSError):
                self._file.unlink()

    def _write(self, pixels: NDArray[np.uint8]) -> None:
        sink = self._sink or self._open(pixels.shape[1], pixels.shape[0])
        width, height = self._size
        # Supervision's frames are BGR.
        sink.write_frame(np.ascontiguousarray(pixels[:height, :width, ::-1]))

    def _open(self, width: int, height: int) -> Any:
        supervision = import_extra("supervision", "predict")
        self._file.parent.mkdir(exist_ok=True)
        self._size = width - width % 2, height - height % 2
        info = supervision.VideoInfo(*self._size, self._video.frames_a_second or _FRAMES_A_SECOND)
        for codec in _CODECS:
            with contextlib.suppress(RuntimeError):
                self._sink = supervision.VideoSink(str(self._file), info, codec).__enter__()
                return self._sink
        raise RuntimeError(f"no encoder takes {self._size[0]}x{self._size[1]} pixels")
