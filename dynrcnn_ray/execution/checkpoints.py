"""Checkpoints in the storage: written whole or not at all, the newest ones kept.

A training that resumes skips a damaged one. A command that uses a finished trial gets exactly the one it names.

```
<storage>/checkpoints/<training_id>/step_00000500.pt
<storage>/checkpoints/<training_id>/best.pt           where checkpoints are evaluated
```
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dynrcnn_ray.config.errors import DynrcnnError
from dynrcnn_ray.config.sections import CheckpointName
from dynrcnn_ray.models.whole_archive import require_whole
from dynrcnn_ray.store.files import StoreError, StoreFiles
from dynrcnn_ray.training.out_of_memory import is_out_of_memory

if TYPE_CHECKING:
    from dynrcnn_ray.training.collectives import Worker

_BEST = "best.pt"


class _DamagedError(DynrcnnError):
    """A checkpoint that cannot be read back. Its text is the kind of error that reading gave."""

    would_repeat = True


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
            # First: a training that resumes from this state takes its AP for the best already.
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
            try:
                found = self._read(_file_name(step))
            except _DamagedError as error:
                on_damaged(f"{self.described}/{_file_name(step)} is damaged and passed over ({error})")
                continue
            if found:
                return found
        return None

    def require(self, which: CheckpointName, *, last_step: int) -> tuple[dict[str, Any], bytes]:
        """The training state of a finished trial, on the host, and the bytes of its file. No other takes its place.

        Args:
            which: `last` is that of the trial's last step; the best is there where a trial trained with
                `run.evaluate_checkpoints`.
            last_step: the trial's steps.

        Raises:
            StoreError: it is missing or damaged, or it is another training's or another step's.
        """
        step = None if which == "best" else last_step if which == "last" else which
        name = _BEST if step is None else _file_name(step)
        try:
            found, why = self._read(name), "is missing"
        except _DamagedError as error:
            found, why = None, f"is damaged ({error})"
        if found is None:
            what = "the best checkpoint" if step is None else f"the checkpoint of step {step}"
            what += " (the trial's last)" if step == last_step else ""
            raise StoreError(f"{self.described}/{name}: {what} {why}; {self._remedy(step, last_step)}")
        self._check_is_own(name, found[0], step)
        return found

    def _remedy(self, missing: int | None, last_step: int) -> str:
        if missing is None:
            return "train with --run.evaluate-checkpoints, or take the last checkpoint"
        others = [step for step in self.steps() if step != missing]
        if missing != last_step:
            return f"there are those of steps {', '.join(map(str, others))}" if others else "there is no other one"
        again = "move the trial's file in trials/ away and run its command again"
        if not others:
            return again
        return (
            f"there is one of step {others[-1]}: {again}, which goes on from it, or ask for that one "
            f"(--checkpoint {others[-1]}, --model.detector-weights TRIAL:{others[-1]})"
        )

    def _check_is_own(self, name: str, state: Any, step: int | None) -> None:
        """Refuse a checkpoint that somebody put in another one's place."""
        found = state.get("training_id") if isinstance(state, dict) else None
        place, remedy = f"{self.described}/{name}", "move it away, or bring back the right one"
        if found != self.training_id:
            raise StoreError(f"{place}: the checkpoint is of training {found!r}, not of {self.training_id!r}; {remedy}")
        dynamic = state.get("dynamic")
        found = dynamic.get("step") if isinstance(dynamic, dict) else None
        if step not in (None, found):
            raise StoreError(f"{place}: the checkpoint is of step {found}, not of {step}; {remedy}")

    def _read(self, name: str) -> tuple[dict[str, Any], bytes] | None:
        """A checkpoint and its bytes; None if it is not there.

        Raises:
            _DamagedError: it is damaged.
        """
        content = self.files.read_bytes(f"{self._folder}/{name}")
        if content is None:  # Another driver has dropped it in the meantime.
            return None
        try:
            require_whole(io.BytesIO(content))
            return decode(content), content
        except Exception as error:  # Broken bytes make the unpickler raise nearly anything.
            if is_out_of_memory(error):
                raise
            raise _DamagedError(type(error).__name__) from None

    @property
    def described(self) -> str:
        """Where it is, for people."""
        return self.files.describe_path(self._folder)

    @property
    def _folder(self) -> str:
        return f"checkpoints/{self.training_id}"


def agreed_content(folder: CheckpointFolder, which: CheckpointName, *, last_step: int, worker: "Worker") -> bytes:
    """The bytes of the checkpoint that the first worker requires, on every worker.

    The others never look: their node may not see the storage, or see another state of it.

    Raises:
        StoreError: as `CheckpointFolder.require`, on the first worker.
    """
    # Imported late, as PyTorch comes with it: a driver and a grid's own process never come here.
    from dynrcnn_ray.training.collectives import broadcast_bytes_from_first

    content = folder.require(which, last_step=last_step)[1] if worker.is_first else None
    content = broadcast_bytes_from_first(content, worker)
    assert content is not None
    return content


def decode(content: bytes) -> dict[str, Any]:
    """The training state of a whole checkpoint file's content, on the host.

    What belongs on a GPU is copied there by whoever takes it over. Records for the store never were there, and a second
    copy of the weights would only take a part of the GPU's memory.
    """
    import torch  # Imported late, as in `save`.

    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _file_name(step: int) -> str:
    return f"step_{step:08d}.pt"
