"""Lets a process die at a chosen moment. Python imports this by itself where its folder is on PYTHONPATH.

`DIE_AT` names the moment, `DIE_MARKER` a file that makes it happen only once, `DIE_WITH` who dies: this process alone
("self"), the command that the marker names by its process id ("command"), or that and all its descendants ("cluster").
"""

import contextlib
import importlib.abc
import importlib.util
import os
import signal
import sys
import time
from pathlib import Path

MOMENT = os.environ.get("DIE_AT", "")


def die() -> None:
    """Kill with SIGKILL, once."""
    marker = Path(os.environ["DIE_MARKER"])
    try:
        command = int(marker.read_text())
        marker.unlink()
    except FileNotFoundError:
        return
    who = os.environ["DIE_WITH"]
    victims = {"self": [os.getpid()], "command": [command], "cluster": [command, *descendants(command)]}[who]
    for pid in victims:
        if pid != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    if who == "command":
        time.sleep(600)  # Left alone: Ray has to end this process. Otherwise it might train on to the next checkpoint.
    os.kill(os.getpid(), signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """All processes that a process has started, from /proc."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found, new = [], [pid]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found += new
    return found


def in_mid_interval(training) -> None:
    """Step 7 of 10: in the middle of an interval of Algorithm 1 and of the log, after the checkpoint of step 5."""
    seed_step = training.seed_step

    def seed_or_die(seed, step, rank):
        if step == 7:
            die()
        seed_step(seed, step, rank)

    training.seed_step = seed_or_die


def while_writing_a_checkpoint(checkpoints) -> None:
    """With half of the last checkpoint's bytes on the disk."""
    save = checkpoints.CheckpointFolder.save
    files_class = checkpoints.StoreFiles

    def write_half(self, path, data):
        with self.filesystem.open_output_stream(path) as stream:
            stream.write(data[: len(data) // 2])
            stream.flush()
            die()
            stream.write(data[len(data) // 2 :])

    def save_or_die(self, state, step, **options):
        if step == 10:
            files_class._write_stream = write_half
        save(self, state, step, **options)

    checkpoints.CheckpointFolder.save = save_or_die


def during_evaluation(trial) -> None:
    """After the detections, before the metrics."""
    metrics_of = trial.metrics_of

    def metrics_or_die(*arguments):
        die()
        return metrics_of(*arguments)

    trial.metrics_of = metrics_or_die


def before_the_trial(driver) -> None:
    """Ray has started the process of a driver, which reads its code and has run nothing of the trial."""
    if Path(sys.argv[0]).name == "default_worker.py":
        die()


def before_the_row(driver) -> None:
    """The dynamics and detections are written, the row that marks the trial as done is not."""
    write_trial = driver.ResultStore.write_trial

    def write_or_die(self, row):
        die()
        write_trial(self, row)

    driver.ResultStore.write_trial = write_or_die


def out_of_memory(trial) -> None:
    """Not a death but a failure: the evaluation of seed 1 asks for more memory than there is."""
    detect_all = trial.detect_all

    def detect_or_fail(config, *arguments):
        if config.seed == 1:
            Path(os.environ["DIE_MARKER"]).unlink()
            bytearray(1 << 60)
        return detect_all(config, *arguments)

    trial.detect_all = detect_or_fail


def slowly(training) -> None:
    """No death: as long as the marker is there, a step takes half a second longer."""
    seed_step = training.seed_step

    def seed_slowly(seed, step, rank):
        if Path(os.environ["DIE_MARKER"]).exists():
            time.sleep(0.5)
        seed_step(seed, step, rank)

    training.seed_step = seed_slowly


def at_every_start(worker) -> None:
    """Each worker process of Ray Train, as soon as it is asked for anything."""
    worker.RayTrainWorker.get_metadata = lambda self: os._exit(1)


PATCHES = {
    "in_mid_interval": ("dynrcnn_ray.engine.training", in_mid_interval),
    "while_writing_a_checkpoint": ("dynrcnn_ray.orchestration.checkpoints", while_writing_a_checkpoint),
    "during_evaluation": ("dynrcnn_ray.engine.trial", during_evaluation),
    "before_the_trial": ("dynrcnn_ray.orchestration.driver", before_the_trial),
    "before_the_row": ("dynrcnn_ray.orchestration.driver", before_the_row),
    "slowly": ("dynrcnn_ray.engine.training", slowly),
    "at_every_start": ("ray.train.v2._internal.execution.worker_group.worker", at_every_start),
    "out_of_memory": ("dynrcnn_ray.engine.trial", out_of_memory),
}


class PatchOnImport(importlib.abc.MetaPathFinder):
    """Patches the module of the moment as soon as somebody has imported it."""

    def find_spec(self, fullname, path=None, target=None):
        """Find the module as ever, and patch it after its body has run."""
        module_name, patch = PATCHES[MOMENT]
        if fullname != module_name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        execute = spec.loader.exec_module

        def execute_and_patch(module):
            execute(module)
            patch(module)

        spec.loader.exec_module = execute_and_patch
        return spec


if MOMENT:
    sys.meta_path.insert(0, PatchOnImport())
