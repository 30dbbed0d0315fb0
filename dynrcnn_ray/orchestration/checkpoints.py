"""Where a trial's checkpoints are in the storage, and how the newest one is read."""

import io
from pathlib import PurePosixPath
from typing import Any

import torch
from pyarrow import fs

from dynrcnn_ray.engine.trial import CHECKPOINT_FILE
from dynrcnn_ray.results.store import ResultStore, StoreError


def checkpoint_root(storage: str) -> str:
    """The folder or URI below which each trial has a folder of checkpoints."""
    return f"{storage}/ray/train"


def read_newest_checkpoint(store: ResultStore, trial_id: str) -> dict[str, Any]:
    """The training state of a trial's last checkpoint, on the CPU; nothing but tensors and plain values is accepted.

    Raises:
        StoreError: the trial has no checkpoint here.
    """
    files = _checkpoint_files(store, trial_id)
    if not files:
        raise StoreError(
            f"{store.describe_path(f'ray/train/{trial_id}')}: no checkpoint of trial {trial_id!r}; give the id of a "
            "trial that trained in this storage"
        )
    with store.filesystem.open_input_stream(files[-1]) as stream:
        return torch.load(io.BytesIO(stream.read()), map_location="cpu", weights_only=True)


def newest_step(store: ResultStore, trial_id: str) -> int | None:
    """The step of a trial's last checkpoint; None if it has none."""
    files = _checkpoint_files(store, trial_id)
    return int(PurePosixPath(files[-1]).parent.name.removeprefix("step_")) if files else None


def _checkpoint_files(store: ResultStore, trial_id: str) -> list[str]:
    folder = checkpoint_root(store.root) + f"/{trial_id}"
    found = store.filesystem.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
    return sorted(info.path for info in found if info.base_name == CHECKPOINT_FILE)
