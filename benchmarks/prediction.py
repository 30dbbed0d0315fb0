"""`predict` over Ray against a plain loop over the same pictures, and with two workers against one."""

import dataclasses
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from benchmarks.paired import Paired
from benchmarks.processes import read_process
from benchmarks.schema import Row, at_least, compared_row
from benchmarks.workbench import Workbench, train_split
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.execution.cluster import ray_cluster
from dynrcnn_ray.tools.predict.prediction import Prediction, predict_pictures
from dynrcnn_ray.tools.predict.predictions import PredictionFiles
from dynrcnn_ray.tools.predict.predictor import Predictor
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.state import build_training_state

PICTURES = 1200
_MIN_SCORE = 0.05


class _Measured(NamedTuple):
    """Per picture: wall seconds, and CPU seconds of all processes that take part."""

    wall: float
    cpu: float


def measure_prediction(bench: Workbench, rounds: int, pictures: int = PICTURES, warm_up: int = 1) -> Iterator[Row]:
    """Three kinds in turn: the plain loop, `predict` with one worker, and with two. Nothing is drawn."""
    dataset = train_split(bench.mini)
    folder = Path(bench.mini.data.root) / bench.mini.data.train_split
    paths = [str(folder / dataset.file_names[index % len(dataset)]) for index in range(pictures)]
    names = dataset.category_names
    out = bench.scratch / "prediction" / "out"
    # Untrained weights find as much as the model hands out, at least as much work as trained ones.
    checkpoint = build_training_state(Trial(bench.mini), len(names), Worker()).state_dict()
    loop = Predictor(Trial(bench.mini), checkpoint, Trial(bench.mini).training_id, sorted(names), torch.device("cpu"))
    measured: dict[str, list[_Measured]] = defaultdict(list)
    with ray_cluster():
        # A first round does not count: a cluster that has just started is still at work.
        for number in range(warm_up + rounds):
            kinds = ("loop", "1", "2")
            for kind in kinds if number % 2 == 0 else reversed(kinds):
                if kind == "loop":
                    found = _in_a_loop(loop, paths, bench.scratch)
                else:
                    found = _over_ray(_with_workers(bench.mini, int(kind)), names, checkpoint, out, paths)
                measured[kind].append(found)
    in_loop, one, two = (measured[kind][warm_up:] for kind in ("loop", "1", "2"))
    yield _speed_row("one_worker", "predict, 1 worker, mini", "a plain loop in one process", one, in_loop, 0.95)
    yield _cpu_row("one_worker", "predict, 1 worker, mini", "a plain loop in one process", one, in_loop)
    yield _speed_row("two_workers_loop", "predict, 2 workers, mini", "a plain loop in one process", two, in_loop, 1.8)
    yield _speed_row("two_workers", "predict, 2 workers, mini", "predict, 1 worker", two, one, 1.8)
    yield _cpu_row("two_workers", "predict, 2 workers, mini", "predict, 1 worker", two, one)


def _with_workers(config: TrialConfig, workers: int) -> TrialConfig:
    return dataclasses.replace(config, run=dataclasses.replace(config.run, num_workers=workers))


def _in_a_loop(predictor: Predictor, paths: list[str], scratch: Path) -> _Measured:
    """What somebody would write: read a picture, detect, and in the end write the results."""
    torch.set_num_threads(predictor.config.run.threads_per_worker)
    clock = _Clock(_of_this_process)
    results = []
    for number, path in enumerate(paths, start=1):
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGB"))
        found = predictor(pixels, min_score=_MIN_SCORE)
        for category, score, (x1, y1, x2, y2) in zip(
            found.category_ids.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True
        ):
            box = [x1, y1, x2 - x1, y2 - y1]
            results.append({"image_id": number, "category_id": category, "bbox": box, "score": score})
    (scratch / "results.json").write_text(json.dumps(results))
    return clock.per_picture(len(paths))


def _over_ray(config: TrialConfig, names: dict[int, str], checkpoint: dict, out: Path, paths: list[str]) -> _Measured:
    """Without the first quarter: how long the actors start says nothing of the speed."""
    prediction = Prediction(Trial(config), Trial(config).training_id, names, checkpoint, _MIN_SCORE, drawings="")
    with _TimedFiles(out, names, warm_up=len(paths) // 4) as files:
        predict_pictures(prediction, paths, files, tell=lambda _line: None)
        assert files.pictures == len(paths)
        return files.per_picture


class _TimedFiles(PredictionFiles):
    """Looks at the clock whenever pictures are written, once so many are."""

    def __init__(self, folder: Path, category_names: dict[int, str], warm_up: int) -> None:
        super().__init__(folder, category_names)
        self._warm_up = warm_up
        self._began: tuple[_Clock, int] | None = None

    def add(self, pictures: pa.Table) -> None:
        """Write them, and look at the clock."""
        super().add(pictures)
        if self._began is not None:
            clock, before = self._began
            self.per_picture = clock.per_picture(self.pictures - before)
        elif self.pictures >= self._warm_up:
            self._began = _Clock(_of_this_process_and_those_below), self.pictures


class _Clock:
    """Wall time, and CPU time of some processes."""

    def __init__(self, cpu_seconds: Callable[[], dict[int, float]]) -> None:
        self._cpu_seconds = cpu_seconds
        self._wall, self._cpu = time.perf_counter(), cpu_seconds()
        self._seen = dict(self._cpu)

    def per_picture(self, pictures: int) -> _Measured:
        """What has passed since, shared among so many; of a process that has ended, what the last look at it saw."""
        self._seen |= self._cpu_seconds()
        cpu = sum(seconds - self._cpu.get(process, 0.0) for process, seconds in self._seen.items())
        return _Measured((time.perf_counter() - self._wall) / pictures, cpu / pictures)


def _of_this_process() -> dict[int, float]:
    return {os.getpid(): time.process_time()}


def _of_this_process_and_those_below() -> dict[int, float]:
    """CPU seconds by process; a local Ray's are below this one (Linux)."""
    parents, seconds = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)], seconds[int(folder.name)] = read_process(folder.name)
        except OSError:  # It has ended.
            continue
    own = os.getpid()

    def is_below(process: int) -> bool:
        while process not in (0, own):
            process = parents.get(process, 0)
        return process == own

    return {process: each for process, each in seconds.items() if is_below(process)}


def _speed_row(name: str, what: str, other: str, a: list[_Measured], b: list[_Measured], least: float) -> Row:
    return compared_row(
        f"predict.{name}",
        f"pictures per second, {what}",
        other,
        Paired(*(1 / np.array([each.wall for each in side]) for side in (a, b))),
        "pictures per second",
        must=at_least(least),
        note="pictures of 128 pixels from files, one thread a worker; results are written, nothing is drawn; without "
        "the first quarter of the pictures, in which the actors start",
    )


def _cpu_row(name: str, what: str, other: str, a: list[_Measured], b: list[_Measured]) -> Row:
    return compared_row(
        f"predict.{name}.cpu",
        f"CPU time of a picture, {what}",
        other,
        Paired(*(np.array([each.cpu for each in side]) for side in (a, b))),
        "CPU seconds",
        note="of all processes that take part, Ray's own among them",
    )
