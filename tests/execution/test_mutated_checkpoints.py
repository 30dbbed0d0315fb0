"""Checkpoints with changed bytes: the newest whole one is taken, or none; never another state, never an exception."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynrcnn_ray.execution.checkpoints import CheckpointFolder
from dynrcnn_ray.store.files import StoreFiles
from tests.mutations import mutate


def state_of(step: int) -> dict[str, Any]:
    weights = {"fc6.weight": torch.arange(40.0).reshape(8, 5) + step, "fc6.bias": torch.arange(7) * step}
    return {"training_id": "abc", "step": step, "model": weights, "history": [{"step": step, "T_now": 0.4}]}


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return (
            isinstance(other, dict) and one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
        )
    return one == other


def file_of(folder: CheckpointFolder, step: int) -> Path:
    return Path(folder.described) / f"step_{step:08d}.pt"


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    folder = CheckpointFolder(StoreFiles.open(tmp_path), "abc")
    for step in (5, 10):
        folder.save(state_of(step), step, is_best=False, keep=2)
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@settings(max_examples=300, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_the_newest_whole_state_or_none(folder: CheckpointFolder, data: st.DataObject) -> None:
    whole = {step: _content(step) for step in (5, 10)}
    changed = data.draw(st.sampled_from([(10,), (10,), (5, 10)]))
    for step in (5, 10):
        content = mutate(data.draw, whole[step]) if step in changed else whole[step]
        file_of(folder, step).write_bytes(content)
    notes: list[str] = []

    state = folder.newest(on_damaged=notes.append)

    allowed = [state_of(10), state_of(5)] if 5 not in changed else [state_of(10), state_of(5), None]
    assert any(equal(state, one) for one in allowed), state
    if state is None or state["step"] == 5:
        assert str(file_of(folder, 10)) in notes[0]


def _content(step: int) -> bytes:
    buffer = io.BytesIO()
    torch.save(state_of(step), buffer)
    return buffer.getvalue()


def test_every_bit_of_the_tensors_counts(folder: CheckpointFolder) -> None:
    """`torch.load` takes the flipped bit for a weight."""
    whole = _content(10)
    at = whole.index(state_of(10)["model"]["fc6.weight"].numpy().tobytes())
    for byte in range(at, at + 160, 7):
        flipped = bytearray(whole)
        flipped[byte] ^= 1 << byte % 8
        file_of(folder, 10).write_bytes(flipped)
        assert not equal(torch.load(io.BytesIO(flipped), weights_only=True), state_of(10))
        assert equal(folder.newest(), state_of(5))
