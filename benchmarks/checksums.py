"""Train one trial on different numbers of workers and print a checksum of its last weights for each, as Markdown.

The trial is scale mini's with eight shards, for 40 steps. The last line's training loses workers: it begins on eight,
goes on from a checkpoint with three, then with five.

Command:  python -m benchmarks.checksums
"""

import hashlib
import tempfile
import uuid
from pathlib import Path

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.validation import with_values
from dynrcnn_ray.data.prepare import prepare_data
from dynrcnn_ray.experiment.experiment import identified
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.device import prepare_device
from dynrcnn_ray.training.events import CheckpointDue
from dynrcnn_ray.training.trial import run_trial

_STEPS = 40
_LOSSES = ((8, 10), (3, 25), (5, _STEPS))
"""Workers, and the step that they train to."""


def main() -> None:
    """Print the table."""
    config = with_values(base_config("mini"), {"train.shards": 8, "train.steps": _STEPS, "run.checkpoint_every": 5})
    trial = identified(config, prepare_data(config.data).inputs)
    print("| workers | SHA-256 of the weights after 40 steps |\n|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="dynrcnn_ray_checksums_") as scratch:
        for workers in (1, 2, 3, 4, 8):
            _print_line(str(workers), trial, ((workers, _STEPS),), Path(scratch, str(workers)))
        _print_line("8, then 3, then 5", trial, _LOSSES, Path(scratch, "losses"))


def _print_line(label: str, trial: Trial, parts: tuple[tuple[int, int], ...], folder: Path) -> None:
    folder.mkdir()
    for workers, last_step in parts:
        meeting = f"file://{folder}/{uuid.uuid4().hex}"
        spawn(_train_as, (workers, meeting, trial, last_step, folder / "state.pt"), nprocs=workers)
    found = hashlib.sha256()
    for name, tensor in torch.load(folder / "state.pt", weights_only=True)["model"].items():
        found.update(name.encode() + tensor.numpy().tobytes())
    print(f"| {label} | `{found.hexdigest()[:16]}` |", flush=True)


def _train_as(rank: int, workers: int, meeting: str, trial: Trial, last_step: int, file: Path) -> None:
    """From the file's state, if there is one, to that of a step, which takes its place."""
    prepare_device(torch.device("cpu"))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers)
    checkpoint = torch.load(file, weights_only=True) if file.exists() else None
    for event in run_trial(trial, Worker(rank, workers), checkpoint=checkpoint):
        if isinstance(event, CheckpointDue) and event.state.step == last_step:
            state = event.state.state_dict()
            if rank == 0:
                torch.save(state, file)
            break
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
