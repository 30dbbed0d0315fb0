"""Why a trial ended: the reason in one line, the whole traceback, and whether another attempt would only repeat it."""

import re
import time
import traceback
from collections.abc import Mapping

from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

from dynrcnn_ray.config.errors import DynrcnnError, innermost_line

_LACKS_MEMORY = re.compile(r"(out of|low on) memory", re.IGNORECASE)
"""What Ray says where it has ended a process itself. Of any crash it says that an "OOM killer" may be the cause."""
_MEMORY_IN_USE = re.compile(r"([\d.]+)GB used / ([\d.]+)GB limit")
_MOST_MEMORY = re.compile(r"Top \d+ memory users:.*\n(?P<process>\d+)\t(?P<gigabytes>[\d.]+)\t(?P<command>.*)")
"""The first line of the table that Ray makes where it has ended a process for lack of memory."""
_LONGEST_COMMAND = 60
_LOWER_ON_GPU = (
    "lower --train.global-batch or raise --num-workers (fewer images a GPU), lower --data.short-side and "
    "--data.long-side or --model.rois-per-image, or take --train.precision bfloat16"
)
_LOWER_ON_HOST = (
    "lower --run.loader-workers or --train.global-batch, raise --run.cpus-per-worker (fewer workers a node), or take "
    "nodes with more memory"
)


class TrialFailure(DynrcnnError):
    """What ended a training, as plain values: it travels between processes whatever the error itself holds.

    Attributes:
        reason: one line.
        traceback: the whole of it, over many lines; empty where there is none.
        would_repeat: whether another attempt would only repeat it.
        failed_at: when, in seconds since the epoch: of several workers the first one began it.
    """

    would_repeat = False

    def __init__(
        self, reason: str, traceback: str = "", *, would_repeat: bool = False, failed_at: float | None = None
    ) -> None:
        """Keep what is known."""
        super().__init__(reason)
        self.reason = reason
        self.traceback = traceback
        self.would_repeat = would_repeat
        self.failed_at = time.time() if failed_at is None else failed_at

    def __reduce__(self) -> tuple:
        """Exceptions are pickled by their positional arguments alone."""
        return _restored, (self.reason, self.traceback, self.would_repeat, self.failed_at)


def _restored(reason: str, traceback: str, would_repeat: bool, failed_at: float) -> TrialFailure:
    return TrialFailure(reason, traceback, would_repeat=would_repeat, failed_at=failed_at)


def failure_in_worker(error: Exception) -> TrialFailure:
    """What a training's own process knows of an error that it has just caught."""
    # Imported late: it takes seconds, and a driver that does not train has no need of it.
    from dynrcnn_ray.training.out_of_memory import is_of_gpu, is_out_of_memory

    reason = innermost_line(error)
    if is_out_of_memory(error):
        reason += f"; {_LOWER_ON_GPU if is_of_gpu(error) else _LOWER_ON_HOST}"
    return _with_traceback(reason, error)


def failure_of(error: Exception | str) -> TrialFailure:
    """What a driver knows of an error that Ray raised for a training.

    Args:
        error: or the text of all ends of a trial's driver, which is what Tune keeps of most kinds of errors.
    """
    if isinstance(error, str):
        return _of_text(last_end(error))
    # Before the failure itself: Ray makes an error that is both.
    if isinstance(error, RayTaskError) and isinstance(error.cause, Exception):
        return failure_of(error.cause)
    if isinstance(error, TrialFailure):
        return error
    if failures := getattr(error, "worker_failures", None):
        return first_failure(failures)
    if isinstance(inner := getattr(error, "controller_failure", None), Exception):
        return failure_of(inner)
    if isinstance(error, OutOfMemoryError):
        return _of_text(str(error))
    return _with_traceback(innermost_line(error), error)


def _with_traceback(reason: str, error: Exception) -> TrialFailure:
    would_repeat = isinstance(error, DynrcnnError) and error.would_repeat
    return TrialFailure(reason, "".join(traceback.format_exception(error)), would_repeat=would_repeat)


def last_end(text: str) -> str:
    """Why a trial's driver ended for the last time, of Tune's text that has all its ends one below the other."""
    _, numbered, last = text.rpartition("Failure #")
    return last.partition("\n")[2] if numbered else text


def _of_text(text: str) -> TrialFailure:
    memory = for_lack_of_memory(text)
    return TrialFailure(f"its process ended{memory}" if memory else innermost_line(text), text)


def first_failure(worker_failures: Mapping[int, Exception]) -> TrialFailure:
    """What began it: a worker that fails or is gone makes the others fail too, if that is known by now."""
    # Ray Train wraps what its health check met.
    causes = {rank: getattr(error, "health_check_failure", error) for rank, error in worker_failures.items()}
    rank = min(causes, key=lambda rank: _order(causes[rank]))
    error = causes[rank]
    if isinstance(error, RayActorError):
        return lost_process(f"worker {rank}", error)
    found = failure_of(error)
    return TrialFailure(
        f"worker {rank}: {found.reason}",
        found.traceback,
        would_repeat=found.would_repeat,
        failed_at=found.failed_at,
    )


def lost_process(whose: str, error: RayActorError) -> TrialFailure:
    """What is known where Ray finds a process gone.

    Args:
        whose: the process is, for people.
        error: what Ray says of its end.
    """
    return TrialFailure(f"{whose}: its process or its node ended{for_lack_of_memory(str(error))}", str(error))


def for_lack_of_memory(text: str) -> str:
    """The end of a line about a process that Ray found gone: who held the memory if that was the cause, else nothing.

    Args:
        text: what Ray says of its end.
    """
    if not _LACKS_MEMORY.search(text):
        return ""
    used, most = _MEMORY_IN_USE.search(text), _MOST_MEMORY.search(text)
    in_use = f" ({used[1]} of {used[2]} GB in use)" if used else ""
    if not most:
        return f" for lack of memory{in_use}; {_LOWER_ON_HOST}"
    # Ray names its own processes so, and the trials' are among them.
    end_it = "" if most["command"].startswith("ray::") else "end that one, or "
    held_by = f"{most['gigabytes']} GB by process {most['process']}, {most['command'].strip()[:_LONGEST_COMMAND]}"
    return f" for lack of memory{in_use}, most of it, {held_by}; {end_it}{_LOWER_ON_HOST}"


def _order(error: Exception) -> tuple[int, float]:
    """First what a training says of itself for good, then lost processes, then the earliest of what may follow."""
    if isinstance(error, TrialFailure):
        return (0 if error.would_repeat else 2), error.failed_at
    return (1 if isinstance(error, RayActorError | OutOfMemoryError) else 3), 0.0
