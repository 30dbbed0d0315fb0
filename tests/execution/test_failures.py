"""What a trial's row says of its end, from the errors that really happen."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayActorError, RayTaskError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError
from ray.train.v2._internal.execution.controller.state import ReschedulingState, RunningState

from dynrcnn_ray.config.extras import MissingExtraError
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.data.annotations import DataError, InaccessibleError
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.data.loader import eval_loader
from dynrcnn_ray.execution.callbacks import FailedStarts
from dynrcnn_ray.execution.failures import TrialFailure, failure_in_worker, failure_of, first_failure
from dynrcnn_ray.models.user_module import ModuleError, load_module
from dynrcnn_ray.models.weights import WeightsError
from dynrcnn_ray.store.files import StoreError, UnusableFileError
from dynrcnn_ray.training.environment import DeviceError
from dynrcnn_ray.training.loop import TrainingDivergedError
from dynrcnn_ray.training.state import CheckpointError


def test_an_error_of_a_loader_process_names_the_file_and_the_image(smoke: TrialConfig, tmp_path: Path):
    """PyTorch hands it on as the text of a traceback of many lines."""
    root = Path(shutil.copytree(smoke.data.root, tmp_path / "data"))
    dataset = CocoDataset(root, "val")
    broken = root / "val" / dataset.file_names[0]
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(DataError, match="Traceback") as raised:
        list(eval_loader(dataset, batch_size=1, loader_workers=1))

    failure = failure_in_worker(raised.value)

    assert failure.reason.startswith(f"DataError: {broken}: image {dataset.image_ids[0]} cannot be read (")
    assert failure.would_repeat
    assert "in _load_image" in failure.traceback


@pytest.mark.parametrize(
    "kind",
    [
        DataError,
        WeightsError,
        ModuleError,
        MissingExtraError,
        ConfigError,
        CheckpointError,
        TrainingDivergedError,
        UnusableFileError,
    ],
)
@pytest.mark.parametrize("known", [failure_in_worker, failure_of])
def test_what_would_only_repeat(kind: type[Exception], known: Callable[[Exception], TrialFailure]):
    """In a training's own process, and of an error that came here from another one."""
    assert known(pickle.loads(pickle.dumps(kind("x")))).would_repeat
    assert failure_of(RayTaskError("drive_trial", "text", kind("x")).as_instanceof_cause()).would_repeat


@pytest.mark.parametrize(
    "error",
    [
        StoreError("x"),
        DeviceError("x"),
        InaccessibleError("x"),
        OSError(5, "Input/output error"),
        MemoryError(),
        RuntimeError("x"),
    ],
)
@pytest.mark.parametrize("known", [failure_in_worker, failure_of])
def test_what_another_attempt_may_survive(error: Exception, known: Callable[[Exception], TrialFailure]):
    assert not known(error).would_repeat


def test_a_module_that_ends_with_an_error_is_not_tried_again(tmp_path: Path):
    """All workers say so, and of those whose connection is lost by it the one is told that began it."""
    module = tmp_path / "detector.py"
    module.write_text("import a_package_that_nobody_has\n")
    with pytest.raises(ModuleError) as raised:
        load_module(str(module), "model.module")
    failure = pickle.loads(pickle.dumps(failure_in_worker(raised.value)))
    assert failure.would_repeat
    lost = TrialFailure("RuntimeError: Connection closed by peer", failed_at=failure.failed_at - 1)
    seen = first_failure({0: lost, 1: failure})
    assert seen.would_repeat
    assert "No module named 'a_package_that_nobody_has'" in seen.reason
    assert failure_of(WorkerGroupError("text", {0: lost, 1: failure})).would_repeat


OF_A_CRASH = (
    "Worker exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits with a connection error code 2. End "
    "of file. Some common causes include: (1) the process was killed by the OOM killer due to high memory usage, (2) "
    "ray stop --force was called, or (3) the worker crashed unexpectedly due to SIGSEGV or another unexpected error. "
    "If the process was killed by the kernel OOM killer (verifiable by checking for OOM in dmesg of the OOMing node), "
    "consider enabling resource isolation via --enable-resource-isolation to prevent node deaths by resource "
    "contention and significant loss of progress by uninformed kernel OOM killing."
)


def no_memory_of_the_allocator() -> Exception:
    try:
        torch.empty(1 << 60)
    except RuntimeError as error:
        return error
    raise AssertionError("so much memory")


def test_out_of_memory_says_what_to_lower():
    on_host = (MemoryError(), no_memory_of_the_allocator())
    on_gpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert all("lower --run.loader-workers" in failure_in_worker(error).reason for error in on_host)
    assert "lower --train.global-batch" in failure_in_worker(on_gpu).reason
    assert "--data.short-side" in failure_in_worker(on_gpu).reason
    killed = RayActorError(error_msg="The node was running low on memory")
    assert "for lack of memory; lower --run.loader-workers" in first_failure({1: killed}).reason


OF_THE_MEMORY_MONITOR = (
    "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, ID: 07bc) was "
    "22.51GB used / 23.54GB limit (0.956)\nOOM kill reason: Memory usage 24189075456B exceeded threshold of "
    "24012684697B (95.0% of 25276510208B limit)\nTop 10 memory users: PID\tMEM(GB)\tCOMMAND\n"
    "21723\t17.20\tpython simulate.py --cells 4000000\n21983\t0.90\tray::ImplicitFunc.train\n"
    "Refer to the documentation on how to address the out of memory issue: https://docs.ray.io."
)
"""Ray 2.60's own words, with some lines left out."""


def test_where_ray_ended_a_process_for_memory_the_line_says_who_held_it():
    """Tune hands on such an error as its text, with those of earlier ends above it."""
    ends = "Failure # 1 (occurred at 2026-11-29)\nsomething else\nFailure # 2 (occurred at 2026-11-29)\n"
    told = "its process ended for lack of memory (22.51 of 23.54 GB in use), most of it, 17.20 GB by process 21723, "
    told += "python simulate.py --cells 4000000; end that one, or lower --run.loader-workers"
    for error in (ends + OF_THE_MEMORY_MONITOR, OutOfMemoryError(OF_THE_MEMORY_MONITOR)):
        assert failure_of(error).reason.startswith(told)
    of_worker = first_failure({0: RayActorError(error_msg="gone"), 1: OutOfMemoryError(OF_THE_MEMORY_MONITOR)})
    assert of_worker.reason.startswith(("worker 0: its process or its node ended", f"worker 1: {told}"))
    own = OF_THE_MEMORY_MONITOR.replace("python simulate.py", "ray::ImplicitFunc.train")
    assert "end that one" not in failure_of(own).reason


def test_what_tune_keeps_as_text_alone_is_a_reason_too():
    text = "Failure # 1 (occurred at 2026)\nTraceback (most recent call last):\n  File x\nray.x.NodeDiedError: gone\n"
    assert failure_of(text).reason == "NodeDiedError: gone"
    assert failure_of("The node is unreachable").reason == "The node is unreachable"


def test_a_crash_is_not_taken_for_a_lack_of_memory():
    """Ray names it among the causes of any end that it did not see coming; the text is that of a SIGKILL."""
    error = RayActorError(error_msg="The actor is dead because its worker process has died. " + OF_A_CRASH)
    assert first_failure({1: error}).reason == "worker 1: its process or its node ended"


@pytest.mark.slow
def test_a_failure_travels_between_processes_whatever_the_error_holds():
    class OfTwoArguments(Exception):
        def __init__(self, one: str, two: object) -> None:
            super().__init__(f"{one} {two}")

    failure = failure_in_worker(OfTwoArguments("a", "b"))
    copy = pickle.loads(pickle.dumps(failure))
    assert copy.reason == "OfTwoArguments: a b"
    assert (copy.traceback, copy.would_repeat, copy.failed_at) == (failure.traceback, False, failure.failed_at)


def test_of_many_workers_the_one_that_began_it_is_told():
    """The others only lose their connection, perhaps seen earlier."""
    lost = TrialFailure("RuntimeError: Connection closed by peer", failed_at=2.0)
    first = TrialFailure("OSError: too many open files", failed_at=1.0)
    for_good = TrialFailure("DataError: image 7", would_repeat=True, failed_at=3.0)
    gone = ActorDiedError()
    assert first_failure({0: lost, 1: first}).reason == "worker 1: OSError: too many open files"
    assert first_failure({0: lost, 1: gone}).reason == "worker 1: its process or its node ended"
    assert first_failure({0: gone, 1: lost, 2: for_good}).reason == "worker 2: DataError: image 7"
    assert failure_of(WorkerGroupError("text", {0: lost, 1: for_good})).would_repeat


def test_workers_that_always_end_while_they_start_are_not_tried_on_and_on():
    dies = ReschedulingState(ControllerError(WorkerGroupStartupFailedError("died")))
    waits = ReschedulingState(ControllerError(WorkerGroupStartupTimeoutError(2)))
    starts = FailedStarts(at_most=3)
    for state in (*[waits] * 100, dies, dies, dies, RunningState(), dies, dies, dies):
        starts.after_controller_state_update(None, state)
    with pytest.raises(TrialFailure, match="ended while they started, 4 times in a row"):
        starts.after_controller_state_update(None, dies)
