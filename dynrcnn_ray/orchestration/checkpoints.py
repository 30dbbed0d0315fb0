"""Checkpoints in the storage: written whole or not at all, the newest ones kept, read back past a damaged one.

```
<storage>/checkpoints/<training_id>/step_00000500.pt
<storage>/checkpoints/<training_id>/best.pt           where checkpoints are evaluated
```
"""

import io
import pickle
from dataclasses import dataclass
from typing import Any

import torch
from pyarrow import fs

from dynrcnn_ray.results.store import ResultStore, StoreError

_BEST = "best.pt"


@dataclass(frozen=True)
class CheckpointFolder:
    """The checkpoints of one training. Several drivers may use it at once: every file in it is whole."""

    store: ResultStore
    training_id: str

    def save(self, state: dict[str, Any], step: int, *, is_best: bool, keep: int) -> None:
        """Write a training state; then drop all but the newest `keep`.

        Raises:
            StoreError: the storage cannot be written, for example because it is full. What was there stays.
        """
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        self.store.write_bytes(f"{self._folder}/{_file_name(step)}", content)
        if is_best:
            self.store.write_bytes(f"{self._folder}/{_BEST}", content)
        for old in self.steps()[:-keep]:
            self.store.delete(f"{self._folder}/{_file_name(old)}")

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, ascending."""
        selector = fs.FileSelector(f"{self.store.root}/{self._folder}", allow_not_found=True)
        names = [info.base_name for info in self.store.filesystem.get_file_info(selector)]
        numbers = [name.removeprefix("step_").removesuffix(".pt") for name in names if name.startswith("step_")]
        return sorted(int(number) for number in numbers if number.isdecimal())

    def newest(self, device: torch.device) -> dict[str, Any] | None:
        """The newest training state that can be read, on a device; None if there is none.

        A damaged file is passed over: the run then goes on from the one before. Nothing but tensors and plain values is
        accepted.
        """
        for step in reversed(self.steps()):
            try:
                return self._read(_file_name(step), device)
            except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError):
                continue
        return None

    def require_newest(self, device: torch.device) -> dict[str, Any]:
        """Like `newest`.

        Raises:
            StoreError: there is none that can be read.
        """
        state = self.newest(device)
        if state is None:
            found = f"{len(self.steps())} damaged ones" if self.steps() else "none"
            raise StoreError(
                f"{self.store.describe_path(self._folder)}: has no readable checkpoint ({found}); give a trial that "
                "trained in this storage"
            )
        return state

    @property
    def _folder(self) -> str:
        return f"checkpoints/{self.training_id}"

    def _read(self, name: str, device: torch.device) -> dict[str, Any]:
        content = self.store.read_bytes(f"{self._folder}/{name}")
        if content is None:
            raise FileNotFoundError(name)
        return torch.load(io.BytesIO(content), map_location=device, weights_only=True)


def _file_name(step: int) -> str:
    return f"step_{step:08d}.pt"
