"""Checkpoints in the storage: written whole or not at all, the newest ones kept, read back past a damaged one.

```
<storage>/checkpoints/<training_id>/step_00000500.pt
<storage>/checkpoints/<training_id>/best.pt           where checkpoints are evaluated
```
"""

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dynrcnn_ray.config.sections import CheckpointName
from dynrcnn_ray.store.files import StoreError, StoreFiles
from dynrcnn_ray.training.out_of_memory import is_out_of_memory

_BEST = "best.pt"


@dataclass(frozen=True)
class CheckpointFolder:
    """The checkpoints of one training. Several drivers may use it at once: every file in it is whole."""

    files: StoreFiles
    training_id: str

    def save(self, state: dict[str, Any], step: int, *, is_best: bool, keep: int) -> None:
        """Write a training state; then drop all but the newest `keep` of those so far.

        A later one is none of them: it is damaged and was passed over, or another driver's.

        Raises:
            StoreError: the storage cannot be written, for example because it is full. What was there stays.
        """
        import torch  # Imported late: it takes seconds, and who only lists checkpoints has no need of it.

        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        if is_best:
            # First, as whoever goes on from this state takes its AP for the best already.
            self.files.write_bytes(f"{self._folder}/{_BEST}", content)
        self.files.write_bytes(f"{self._folder}/{_file_name(step)}", content)
        for old in [each for each in self.steps() if each <= step][:-keep]:
            self.files.delete(f"{self._folder}/{_file_name(old)}")

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, ascending."""
        names = self.files.names(self._folder, ".pt")
        numbers = [name.removeprefix("step_") for name in names if name.startswith("step_")]
        return sorted(int(number) for number in numbers if number.isdecimal())

    def newest(self, *, on_damaged: Callable[[str], None] = lambda note: None) -> dict[str, Any] | None:
        """The newest training state that can be read, on the host; None if there is none.

        A damaged file is passed over: the run then goes on from the one before. Nothing but tensors and plain values is
        accepted.

        Args:
            on_damaged: told of each file that is passed over, in a line.

        Raises:
            StoreError: the storage cannot be read; that is no reason to train anew. Nor is a lack of memory, which
                raises whatever PyTorch raises.
        """
        found = self.newest_with_content(on_damaged=on_damaged)
        return None if found is None else found[0]

    def newest_with_content(
        self, *, on_damaged: Callable[[str], None] = lambda note: None
    ) -> tuple[dict[str, Any], bytes] | None:
        """Like `newest`, with the bytes of its file, from which `decode` makes the same state elsewhere."""
        for step in reversed(self.steps()):
            if found := self._read(_file_name(step), on_damaged):
                return found
        return None

    def require(
        self, which: CheckpointName, *, on_damaged: Callable[[str], None] = lambda note: None
    ) -> tuple[dict[str, Any], bytes]:
        """The newest training state that can be read, or the best one, on the host, and the bytes of its file.

        Args:
            which: the best is there where a trial trained with `run.evaluate_checkpoints`.
            on_damaged: told of each file that is passed over, in a line.

        Raises:
            StoreError: there is none that can be read.
        """
        if which == "best":
            found = self._read(_BEST, on_damaged)
            remedy = "train with --run.evaluate-checkpoints, or take the last checkpoint"
        else:
            found = self.newest_with_content(on_damaged=on_damaged)
            remedy = "give a trial that trained in this storage"
        if found is None:
            what = "best checkpoint" if which == "best" else "checkpoint"
            there = f"{len(self.steps())} damaged ones" if self.steps() and which == "last" else "none"
            raise StoreError(f"{self.described}: has no readable {what} ({there}); {remedy}")
        return found

    def _read(self, name: str, on_damaged: Callable[[str], None]) -> tuple[dict[str, Any], bytes] | None:
        """A checkpoint and its bytes; None if it is not there or damaged."""
        relative = f"{self._folder}/{name}"
        content = self.files.read_bytes(relative)
        if content is None:  # Another driver has dropped it in the meantime.
            return None
        try:
            _check_is_whole(content)
            return decode(content), content
        except Exception as error:  # Broken bytes make the unpickler raise nearly anything.
            if is_out_of_memory(error):
                raise
            on_damaged(f"{self.files.describe_path(relative)} is damaged and passed over ({type(error).__name__})")
            return None

    @property
    def described(self) -> str:
        """Where it is, for people."""
        return self.files.describe_path(self._folder)

    @property
    def _folder(self) -> str:
        return f"checkpoints/{self.training_id}"


def decode(content: bytes) -> dict[str, Any]:
    """The training state of a whole checkpoint file's content, on the host.

    What belongs on a GPU is copied there by whoever takes it over. Records for the store never were there, and a second
    copy of the weights would only take a part of the GPU's memory.
    """
    import torch

    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _check_is_whole(content: bytes) -> None:
    """Raise if a byte of a checkpoint has changed: `torch.load` itself looks at no checksum.

    It also leaves tensors unset whose entry is marked as a folder, which no checksum covers.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        damaged = archive.testzip() or next((entry for entry in archive.infolist() if entry.external_attr), None)
    if damaged:
        raise zipfile.BadZipFile(f"{damaged} is damaged")


def _file_name(step: int) -> str:
    return f"step_{step:08d}.pt"
