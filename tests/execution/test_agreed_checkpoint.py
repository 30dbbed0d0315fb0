"""Two workers whose nodes do not see the same storage: the first one's checkpoint is everyone's."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dynrcnn_ray.execution.checkpoints import CheckpointFolder, agreed_content, decode
from dynrcnn_ray.execution.worker import agreed_checkpoint
from dynrcnn_ray.store.files import StoreFiles
from dynrcnn_ray.training.collectives import Worker, differences_of_workers
from tests.processes import run_workers

STATE = {"training_id": "abc", "dynamic": {"step": 5}, "model": {"weight": torch.arange(40.0)}}


def worker_of_two(worker: Worker, folder: Path) -> None:
    found: list[Any] = []
    for storage in ("none", "some", "other"):
        # Each has a disk of its own under the same name.
        checkpoints = CheckpointFolder(StoreFiles.open(f"{folder}/disk{worker.rank}/{storage}"), "abc")
        found.append(agreed_checkpoint(checkpoints, worker))
    checkpoints = CheckpointFolder(StoreFiles.open(f"{folder}/disk{worker.rank}/finished"), "abc")
    found.append(decode(agreed_content(checkpoints, "last", last_step=8, worker=worker))["model"]["weight"].tolist())
    found.append([differences_of_workers(1, worker), differences_of_workers(worker.rank, worker)])
    torch.save(found, folder / f"{worker.rank}.pt")


@pytest.mark.slow
def test_all_go_on_from_what_the_first_finds(tmp_path: Path):
    """It has none, a damaged one beside a whole one, or one where only the second has a later one."""
    first, second = (tmp_path / f"disk{rank}" for rank in (0, 1))
    CheckpointFolder(StoreFiles.open(second / "none"), "abc").save(STATE, 8, is_best=False, keep=2)
    some = CheckpointFolder(StoreFiles.open(first / "some"), "abc")
    for step in (5, 10):
        some.save(STATE, step, is_best=False, keep=2)
    damaged = Path(some.described) / "step_00000010.pt"
    damaged.write_bytes(b"half")
    for disk, step in ((first, 5), (second, 8)):
        CheckpointFolder(StoreFiles.open(disk / "other"), "abc").save(
            STATE | {"dynamic": {"step": step}}, step, is_best=False, keep=2
        )

    # Both have the last one of a finished trial, with other weights.
    for disk, weights in ((first, [1.0, 2.0]), (second, [3.0, 4.0])):
        state = {"training_id": "abc", "dynamic": {"step": 8}, "model": {"weight": torch.tensor(weights)}}
        CheckpointFolder(StoreFiles.open(disk / "finished"), "abc").save(state, 8, is_best=False, keep=2)

    run_workers(worker_of_two, 2, tmp_path, tmp_path)

    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for none, (state, notes), (other, _), required, differences in results:
        assert none == (None, [])
        assert state["dynamic"] == other["dynamic"] == {"step": 5}
        assert required == [1.0, 2.0], "the first one's, for an evaluation or a start from a trial"
        assert torch.equal(state["model"]["weight"], STATE["model"]["weight"])
        # Every worker reports them: a report of some alone never ends.
        assert notes == [f"{damaged} is damaged and passed over (BadZipFile)"]
        assert differences == [{}, {0: 0, 1: 1}]
