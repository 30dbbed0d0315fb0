"""Lets processes die at chosen moments. Python imports this by itself where its folder is on PYTHONPATH.

`DIE_AT` names the moments and who dies at each, as in "in_mid_interval=self before_the_row=cluster": the process that
comes there ("self"), the command ("command"), or that and all its descendants ("cluster"). `DIE_MARKERS` is a folder: a
file of a moment's name in it makes that happen, once, and holds the command's process id.
"""

import contextlib
import importlib.abc
import importlib.util
import os
import signal
import sys
import time
from pathlib import Path

MOMENTS = dict(death.split("=") for death in os.environ.get("DIE_AT", "").split())


def marker_of(moment: str) -> Path:
    """The file that makes it happen."""
    return Path(os.environ["DIE_MARKERS"], moment)


def die(moment: str) -> None:
    """Kill with SIGKILL, once."""
    marker = marker_of(moment)
    try:
        command = int(marker.read_text())
        marker.unlink()
    except FileNotFoundError:
        return
    who = MOMENTS[moment]
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
            die("in_mid_interval")
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
            die("while_writing_a_checkpoint")
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
        die("during_evaluation")
        return metrics_of(*arguments)

    trial.metrics_of = metrics_or_die


def before_the_trial(driver) -> None:
    """Ray has started the process of a driver, which reads its code and has run nothing of the trial."""
    if Path(sys.argv[0]).name == "default_worker.py":
        die("before_the_trial")


def before_the_row(driver) -> None:
    """The dynamics and detections are written, the row that marks the trial as done is not."""
    write_trial = driver.ResultStore.write_trial

    def write_or_die(self, row):
        die("before_the_row")
        write_trial(self, row)

    driver.ResultStore.write_trial = write_or_die


def out_of_memory(trial) -> None:
    """Not a death but a failure: the evaluation of seed 2 asks for more memory than there is."""
    detect_all = trial.detect_all

    def detect_or_fail(config, *arguments):
        if config.seed == 2:
            marker_of("out_of_memory").unlink(missing_ok=True)
            bytearray(1 << 60)
        return detect_all(config, *arguments)

    trial.detect_all = detect_or_fail


def slowly(training) -> None:
    """No death: as long as the marker is there, a step takes a second longer."""
    seed_step = training.seed_step

    def seed_slowly(seed, step, rank):
        if marker_of("slowly").exists():
            time.sleep(1)
        seed_step(seed, step, rank)

    training.seed_step = seed_slowly


def at_every_start(worker) -> None:
    """Each worker process of Ray Train, as soon as it is asked for anything."""
    worker.RayTrainWorker.get_metadata = lambda self: os._exit(1)


PATCHES = {
    "in_mid_interval": ("dynrcnn_ray.training.loop", in_mid_interval),
    "while_writing_a_checkpoint": ("dynrcnn_ray.execution.checkpoints", while_writing_a_checkpoint),
    "during_evaluation": ("dynrcnn_ray.training.trial", during_evaluation),
    "before_the_trial": ("dynrcnn_ray.execution.driver", before_the_trial),
    "before_the_row": ("dynrcnn_ray.execution.driver", before_the_row),
    "slowly": ("dynrcnn_ray.training.loop", slowly),
    "at_every_start": ("ray.train.v2._internal.execution.worker_group.worker", at_every_start),
    "out_of_memory": ("dynrcnn_ray.training.trial", out_of_memory),
}


class PatchOnImport(importlib.abc.MetaPathFinder):
    """Patches the modules of the moments as soon as somebody has imported them."""

    def __init__(self) -> None:
        """Wait for the modules of all moments."""
        self.patches = {}
        for moment in MOMENTS:
            module_name, patch = PATCHES[moment]
            self.patches.setdefault(module_name, []).append(patch)

    def find_spec(self, fullname, path=None, target=None):
        """Find the module as ever, and patch it after its body has run."""
        patches = self.patches.pop(fullname, None)
        if patches is None:
            return None
        spec = importlib.util.find_spec(fullname)
        execute = spec.loader.exec_module

        def execute_and_patch(module):
            execute(module)
            for patch in patches:
                patch(module)

        spec.loader.exec_module = execute_and_patch
        return spec


if MOMENTS:
    sys.meta_path.insert(0, PatchOnImport())
