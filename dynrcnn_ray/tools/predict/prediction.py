"""A trained detector over pictures by Ray Data: actors hold the model, the driver writes what they find as it comes."""

import contextlib
import dataclasses
import logging
import math
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
import ray.exceptions

from dynrcnn_ray.config.extras import import_extra
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import to_yaml
from dynrcnn_ray.data.videos import IDS_OF_A_VIDEO, Video, frames_of
from dynrcnn_ray.execution.cluster import ray_cluster, trials_at_once
from dynrcnn_ray.orchestration.detecting_actor import DetectingActor
from dynrcnn_ray.store.files import one_line
from dynrcnn_ray.tools.predict.pictures import printable
from dynrcnn_ray.tools.predict.predictions import PICTURE, PredictionFiles

_MOST_AT_ONCE = 128
"""Pictures an actor is given at once. Few are balanced better, many cost less."""
_SHARES_OF_A_WORKER = 8
_SECONDS_BETWEEN_LINES = 5.0
_RETRIES_OF_A_VIDEO = 2


class PredictionError(ValueError):
    """It cannot go on. Its text is one line."""


@dataclass(frozen=True)
class Prediction:
    """What to detect, and with what.

    Attributes:
        config: the trial, with the workers of this prediction.
        training_id: whose checkpoint it is.
        category_names: name of each category by its id.
        checkpoint: the training state that every worker detects with, whatever the storage holds meanwhile.
        min_score: detections below are left out.
        drawings: folder for the drawn pictures; empty draws none.
        source: the URI whose file system has what is detected on; empty: each node's own.
    """

    config: TrialConfig
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
        tell: is told how far it is, every few seconds.
        videos: files that every node can read.

    Raises:
        ConfigError: the cluster is too small for the workers.
        PredictionError: the workers cannot start.
    """
    progress = _Progress(files, len(paths) + sum(video.stated_frames for video in videos), tell)
    rows = [{"image_id": number, "path": os.fsencode(path)} for number, path in enumerate(paths, start=1)]
    with _ray_data(prediction.config):
        described = _described(prediction)
        at_once = _pictures_at_once(len(rows), prediction.config.run.num_workers)
        for size in (at_once, 1):
            came: set[int] = set()
            if rows:
                pictures = ray.data.from_items(rows, override_num_blocks=math.ceil(len(rows) / size))
                for table in _detected(prediction, described, pictures, in_reserve=size > 1):
                    came.update(table["image_id"].to_pylist())
                    progress.add(table)
            rows = [row for row in rows if row["image_id"] not in came]
        for row in rows:
            progress.add(_one_alone(prediction, described, row))
        if videos:
            _predict_videos(prediction, described, videos, files, progress)
    progress.tell_now()


def _predict_videos(
    prediction: Prediction,
    described: dict[str, Any],
    videos: Sequence[Video],
    files: PredictionFiles,
    progress: "_Progress",
) -> None:
    came: Counter[int] = Counter()
    last = dict.fromkeys((video.first_id for video in videos), 0)
    for table in _detected(prediction, described, _frames_of_videos(videos, prediction.config.run.num_workers)):
        for image_id, error in zip(table["image_id"].to_pylist(), table["error"].to_pylist(), strict=True):
            number = (image_id - 1) % IDS_OF_A_VIDEO + 1
            first_id = image_id - number + 1
            last[first_id] = max(last[first_id], number)
            came[first_id] += error is None
        progress.add(table)
    for video in videos:
        there = max(video.stated_frames, last[video.first_id])
        if not there:
            files.add_bad(f"{printable(video.path)}: has no frame that can be read")
        elif missing := there - came[video.first_id]:
            files.add_bad(f"{printable(video.path)}: {missing} of its {there} frames are missing")


def _frames_of_videos(videos: Sequence[Video], workers: int) -> Any:
    """The frames as a data set whose blocks are a few frames: a block is what one actor is given."""
    at_once = max(video.frames_at_once * video.frame_bytes for video in videos)
    # Else Ray Data joins them to blocks of 128 MiB, and one actor would get most videos whole.
    ray.data.DataContext.get_current().target_max_block_size = at_once
    rows = [dataclasses.asdict(video) | {"path": os.fsencode(video.path)} for video in videos]
    with warnings.catch_warnings(action="ignore"):  # See `_detected`.
        return ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _frames,
            compute=ray.data.TaskPoolStrategy(size=min(len(videos), workers)),
            # The actors may hold all cores.
            num_cpus=0,
            batch_format="pyarrow",
            max_retries=_RETRIES_OF_A_VIDEO,
        )


def _frames(table: pa.Table) -> Iterator[pa.Table]:
    for row in table.to_pylist():
        yield from frames_of(Video(**row | {"path": os.fsdecode(row["path"])}))


def _pictures_at_once(count: int, workers: int) -> int:
    return min(max(1, math.ceil(count / (workers * _SHARES_OF_A_WORKER))), _MOST_AT_ONCE)


@contextlib.contextmanager
def _ray_data(config: TrialConfig) -> Iterator[None]:
    """A cluster with Ray Data on it, quietly."""
    import_extra("ray.data", "predict")
    for name in ("ray.data", "ray.data._internal"):
        # It also logs each block that is lost, with a traceback.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Such as that a video is one input for several actors: its frames are handed to all.
    warnings.filterwarnings("ignore", module=r"ray\.data")
    with ray_cluster():
        trials_at_once(config.run)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        # What is lost with a process is tried again here, a picture at a time.
        context.max_errored_blocks = -1
        yield


def _detected(
    prediction: Prediction, described: dict[str, Any], pictures: Any, *, in_reserve: bool = True
) -> Iterator[pa.Table]:
    """What is found, as rows of `PICTURE`, in order; without the blocks of a process that died.

    Args:
        prediction: what to detect, and with what.
        described: of it, for the actors.
        pictures: a data set.
        in_reserve: whether an actor is given its next block while it is at one; both die with it.

    Raises:
        PredictionError: the workers cannot start.
    """
    run = prediction.config.run
    with warnings.catch_warnings(
        action="ignore"
    ):  # Ray will have other arguments for what the actors are started with.
        found = pictures.map_batches(
            DetectingActor,
            fn_constructor_args=(described,),
            compute=ray.data.ActorPoolStrategy(
                size=run.num_workers, max_tasks_in_flight_per_actor=None if in_reserve else 1
            ),
            num_cpus=run.cpus_per_worker,
            num_gpus=run.gpu,
            batch_size=None,
            batch_format="pyarrow",
            # The pool starts another actor instead. Ray's own restart would try the same block without end, and prints
            # a warning at the start.
            max_restarts=0,
        )
    came = False
    try:
        for table in found.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
            came = True
            yield table
    except ray.exceptions.RayError as error:
        # What a lost node had done is tried again, too.
        if not came:
            raise PredictionError(f"the workers cannot start: {one_line(error)[-300:]}") from error


def _one_alone(prediction: Prediction, described: dict[str, Any], row: dict[str, Any]) -> pa.Table:
    """What is found in one picture by an actor that is started for it, while nothing else goes on.

    Raises:
        PredictionError: it cannot start.
    """
    run = prediction.config.run
    options = {"num_cpus": run.cpus_per_worker, "num_gpus": run.gpu, "max_restarts": 0}
    actor: Any = ray.remote(**options)(DetectingActor).remote(described)
    try:
        ray.get(actor.__ray_ready__.remote())
    except ray.exceptions.RayError as error:
        raise PredictionError(f"a worker cannot start: {one_line(error)[-300:]}") from error
    try:
        return ray.get(actor.__call__.remote(pa.Table.from_pylist([row])))
    except ray.exceptions.RayError:
        why = "the process that detects on it was killed each time, of three; there may be too little memory for it"
        own = {"image_id": row["image_id"], "file_name": printable(os.fsdecode(row["path"])), "error": why}
        return pa.Table.from_pylist([own], schema=PICTURE)
    finally:
        ray.kill(actor)


class _Progress:
    """How far it is, and how fast once the actors have started."""

    def __init__(self, files: PredictionFiles, total: int, tell: Callable[[str], None]) -> None:
        self._files, self._total, self._tell = files, total, tell
        self._began: tuple[float, int] | None = None
        self._told = time.perf_counter()

    def add(self, table: pa.Table) -> None:
        """Write what is found in some pictures, and say how far it is where the last line is some seconds ago."""
        self._files.add(table)
        if self._began is None:
            # The first pictures are done: how long they took says nothing of the speed.
            self._began = time.perf_counter(), self._files.done
        if time.perf_counter() - self._told > _SECONDS_BETWEEN_LINES:
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
        self._told = time.perf_counter()
        self._tell("  ".join(parts))


def _described(prediction: Prediction) -> dict[str, Any]:
    """What an actor is given: plain values, and where in the cluster's memory the checkpoint is."""
    plain = ("training_id", "category_names", "min_score", "drawings", "source")
    described = {name: getattr(prediction, name) for name in plain}
    return described | {"config": to_yaml(prediction.config), "checkpoint": ray.put(prediction.checkpoint)}
