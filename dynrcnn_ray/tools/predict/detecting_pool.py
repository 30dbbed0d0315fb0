"""Processes that detect, each on one block of pictures at a time; one that dies costs that block, and is replaced."""

import contextlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import pyarrow as pa
import ray
import ray.exceptions

from dynrcnn_ray.config.errors import DynrcnnError, one_line
from dynrcnn_ray.config.sections import RunConfig
from dynrcnn_ray.tools.predict.detecting_actor import DetectingActor

_MOST_FAILED_STARTS = 3
"""In a row; after these the workers cannot start."""
_BLOCKS_BEFORE_THEIR_TURN = 4
"""For each worker: so many finished blocks may wait for one before them."""


class PredictionError(DynrcnnError, ValueError):
    """The prediction cannot go on. Its text is one line."""

    would_repeat = False


class DetectingPool:
    """Actors of `run.num_workers`, which start when their resources are there."""

    def __init__(self, run: RunConfig, described: dict[str, Any]) -> None:
        """Ask for the actors.

        Args:
            run: how many, and what each takes.
            described: what `DetectingActor` takes.
        """
        self.size = run.num_workers
        self._described = described
        # Ray's own restart would try the same block again, without end.
        self._options = {"num_cpus": run.cpus_per_worker, "num_gpus": run.gpu, "max_restarts": 0}
        self._idle: deque[Any] = deque()
        self._starting: dict[Any, Any] = {}
        self._running: dict[Any, tuple[int, pa.Table, Any]] = {}
        self._failed_starts = 0
        for _ in range(self.size):
            self._start()

    def results(self, blocks: Iterable[pa.Table], *, at_once: int) -> Iterator[tuple[pa.Table, pa.Table | None]]:
        """Each block with what is found in it, in order; with None where its process died.

        Args:
            blocks: asked for one by one, a little before their turn.
            at_once: so many of the actors work.

        Raises:
            PredictionError: actors cannot start.
        """
        numbered = enumerate(blocks)
        coming = next(numbered, None)
        done: dict[int, tuple[pa.Table, pa.Table | None]] = {}
        turn = 0
        while coming is not None or self._running:
            while (
                coming is not None
                and self._idle
                and len(self._running) < at_once
                and len(done) < _BLOCKS_BEFORE_THEIR_TURN * self.size
            ):
                number, block = coming
                actor = self._idle.popleft()
                self._running[actor.__call__.remote(block)] = number, block, actor
                # While the actors work.
                coming = next(numbered, None)
            (ready,), _ = ray.wait([*self._running, *self._starting], num_returns=1)
            if ready in self._starting:
                self._take_started(ready)
                continue
            number, block, actor = self._running.pop(ready)
            done[number] = block, self._result(ready, actor)
            while turn in done:
                yield done.pop(turn)
                turn += 1

    def close(self) -> None:
        """End the actors."""
        for actor in (*self._idle, *self._starting.values(), *(actor for _, _, actor in self._running.values())):
            with contextlib.suppress(Exception):
                ray.kill(actor)

    def _start(self) -> None:
        actor: Any = ray.remote(**self._options)(DetectingActor).remote(self._described)
        self._starting[actor.__ray_ready__.remote()] = actor

    def _take_started(self, ready: Any) -> None:
        actor = self._starting.pop(ready)
        try:
            ray.get(ready)
        except ray.exceptions.RayError as error:
            self._failed_starts += 1
            if self._failed_starts == _MOST_FAILED_STARTS:
                raise PredictionError(f"the workers cannot start: {one_line(error)[-300:]}") from error
            self._start()
        else:
            self._failed_starts = 0
            self._idle.append(actor)

    def _result(self, ready: Any, actor: Any) -> pa.Table | None:
        try:
            found = ray.get(ready)
        except ray.exceptions.RayTaskError:  # An error of ours.
            raise
        except ray.exceptions.RayError:
            with contextlib.suppress(Exception):
                ray.kill(actor)
            self._start()
            return None
        self._idle.append(actor)
        return found


@contextlib.contextmanager
def detecting_pool(run: RunConfig, described: dict[str, Any]) -> Generator[DetectingPool, None, None]:
    """A pool that ends its actors in the end; the arguments are those of `DetectingPool`."""
    pool = DetectingPool(run, described)
    try:
        yield pool
    finally:
        pool.close()
