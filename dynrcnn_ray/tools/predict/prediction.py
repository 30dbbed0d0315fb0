"""A trained detector over pictures by Ray: actors hold the model, the driver writes what they find as it comes."""

import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.execution.cluster import ray_cluster, trials_at_once
from dynrcnn_ray.options.progress import NowAndThen
from dynrcnn_ray.tools.predict.detecting_pool import DetectingPool, detecting_pool
from dynrcnn_ray.tools.predict.drawn_video import DrawnVideo
from dynrcnn_ray.tools.predict.pictures import plain_stem, printable
from dynrcnn_ray.tools.predict.predictions import PICTURE, PredictionFiles
from dynrcnn_ray.tools.predict.videos import Video, frames_of

_MOST_AT_ONCE = 128
"""Pictures that an actor gets at once: few balance the load better, many cost less."""
_SHARES_OF_A_WORKER = 8


@dataclass(frozen=True)
class Prediction:
    """What to detect, and with what.

    Attributes:
        trial: the trial, with the workers of this prediction.
        training_id: whose checkpoint it is.
        category_names: name of each category by its id.
        checkpoint: the training state that every worker detects with, whatever the storage holds meanwhile.
        min_score: detections below are left out.
        drawings: folder for the drawn pictures; empty draws none, and no videos.
        source: the URI whose file system has what is detected on; empty: each node's own.
    """

    trial: Trial
    training_id: str
    category_names: dict[int, str]
    checkpoint: dict[str, Any]
    min_score: float
    drawings: str
    source: str = ""


def predict_pictures(
    prediction: Prediction,
    paths: Sequence[str],
    files: PredictionFiles,
    tell: Callable[[str], None],
    videos: Sequence[Video] = (),
) -> None:
    """Detect on pictures, in their order, and on the frames of videos after them.

    A picture that ends the process which detects on it is tried three times: with others, without, and with nothing
    else going on. Only those that were with it are tried again, and they come last.

    Args:
        prediction: what to detect, and with what.
        paths: as listed, files that every node can read.
        files: takes what is found.
        tell: called with the progress, every few seconds.
        videos: files of this machine.

    Raises:
        ConfigError: the cluster is too small for the workers.
        PredictionError: the workers cannot start.
    """
    progress = _Progress(files, len(paths) + sum(video.stated_frames for video in videos), tell)
    run = prediction.trial.config.run
    rows = [{"image_id": number, "path": os.fsencode(path)} for number, path in enumerate(paths, start=1)]
    with ray_cluster():
        trials_at_once(run)
        with detecting_pool(run, _described(prediction)) as pool:
            tries = ((run.num_workers, _pictures_at_once(len(rows), run.num_workers)), (run.num_workers, 1), (1, 1))
            for at_once, size in tries:
                blocks = (pa.Table.from_pylist(rows[at : at + size]) for at in range(0, len(rows), size))
                rows = _detect(pool, blocks, at_once, progress)
            progress.add(pa.Table.from_pylist([_killed_each_time(row) for row in rows], schema=PICTURE))
            for number, video in enumerate(videos, start=1):
                file = files.videos / f"{number}_{plain_stem(video.name)}.mp4"
                drawn = DrawnVideo(file, video) if prediction.drawings else None
                _detect_in_video(pool, video, files, progress, drawn)
    progress.tell_now()


def _detect(
    pool: DetectingPool, blocks: Iterable[pa.Table], at_once: int, progress: "_Progress"
) -> list[dict[str, Any]]:
    """Detect on blocks of pictures; returns the rows that were lost with a process."""
    lost: list[dict[str, Any]] = []
    for block, found in pool.results(blocks, at_once=at_once):
        if found is None:
            lost += block.to_pylist()
        else:
            progress.add(found)
    return lost


def _detect_in_video(
    pool: DetectingPool, video: Video, files: PredictionFiles, progress: "_Progress", drawn: DrawnVideo | None
) -> None:
    came = last = 0
    for block, found in pool.results(frames_of(video), at_once=pool.size):
        last = max(block["image_id"].to_pylist()) - video.first_id + 1
        if found is not None:
            came += found["error"].null_count
            progress.add(found)
        if drawn:
            drawn.add(block, found)
    if drawn:
        drawn.close()
        if drawn.error:
            files.add_bad(f"{printable(video.path)}: detected on, but not drawn: {drawn.error}")
    there = max(video.stated_frames, last)
    if not there:
        files.add_bad(f"{printable(video.path)}: has no frame that can be read")
    elif there > came:
        files.add_bad(f"{printable(video.path)}: {there - came} of its {there} frames are missing")


def _pictures_at_once(count: int, workers: int) -> int:
    return min(max(1, math.ceil(count / (workers * _SHARES_OF_A_WORKER))), _MOST_AT_ONCE)


def _killed_each_time(row: dict[str, Any]) -> dict[str, Any]:
    why = "the process that detects on it was killed each time, of three; there may be too little memory for it"
    return {"image_id": row["image_id"], "file_name": printable(os.fsdecode(row["path"])), "error": why}


class _Progress:
    """How far it is, and how fast once the actors have started."""

    def __init__(self, files: PredictionFiles, total: int, tell: Callable[[str], None]) -> None:
        self._files, self._total, self._tell = files, total, tell
        self._began: tuple[float, int] | None = None
        self._lines = NowAndThen()

    def add(self, table: pa.Table) -> None:
        """Write what is found in some pictures, and say how far it is where the last line is some seconds ago."""
        self._files.add(table)
        if self._began is None:
            # The first pictures are done: how long they took says nothing of the speed.
            self._began = time.perf_counter(), self._files.done
        if self._lines.is_due():
            self.tell_now()

    def tell_now(self) -> None:
        """How many are done, pictures a second, the time that is left, and bad files."""
        done = self._files.done
        # A video may have more frames than it says, or say nothing.
        parts = [f"{done}/{max(done, self._total)} pictures"]
        if self._began is not None and done > self._began[1]:
            rate = (done - self._began[1]) / (time.perf_counter() - self._began[0])
            parts.append(f"{rate:.1f} pictures/s")
            if done < self._total:
                parts.append(f"left {round((self._total - done) / rate)}s")
        if self._files.bad:
            parts.append(f"{len(self._files.bad)} bad files")
        self._tell("  ".join(parts))


def _described(prediction: Prediction) -> dict[str, Any]:
    """What an actor is given: small values, and where in the cluster's memory the checkpoint is."""
    small = ("trial", "training_id", "category_names", "min_score", "drawings", "source")
    described = {name: getattr(prediction, name) for name in small}
    return described | {"checkpoint": ray.put(prediction.checkpoint)}
