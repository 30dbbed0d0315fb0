"""Where a training's checkpoints are in the storage, and how the newest one is read."""

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


def read_newest_checkpoint(store: ResultStore, training_id: str) -> dict[str, Any]:
    """The training state of a training's last checkpoint, on the CPU; nothing but tensors and plain values is accepted.

    Raises:
        StoreError: the training has no checkpoint here.
    """
    files = _checkpoint_files(store, training_id)
    if not files:
        raise StoreError(
            f"{store.describe_path(f'ray/train/{training_id}')}: no checkpoint of training {training_id!r}; give the id of a "
            "trial that trained in this storage"
        )
    with store.filesystem.open_input_stream(files[-1]) as stream:
        return torch.load(io.BytesIO(stream.read()), map_location="cpu", weights_only=True)


def newest_step(store: ResultStore, training_id: str) -> int | None:
    """The step of a training's last checkpoint; None if it has none."""
    files = _checkpoint_files(store, training_id)
    return int(PurePosixPath(files[-1]).parent.name.removeprefix("step_")) if files else None


def _checkpoint_files(store: ResultStore, training_id: str) -> list[str]:
    folder = checkpoint_root(store.root) + f"/{training_id}"
    found = store.filesystem.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
    return sorted(info.path for info in found if info.base_name == CHECKPOINT_FILE)
