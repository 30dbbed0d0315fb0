"""Checkpoints without Ray: whole files, the newest kept, damaged and foreign ones passed over or refused."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.execution.checkpoints import CheckpointFolder, decode
from dynrcnn_ray.store.files import StoreError, StoreFiles
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.state import CheckpointError, TrainingState, build_training_state
from tests.prepared import prepared
from tests.training.test_trial import change, without_clock
from tests.trial_events import run_to_end

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder(StoreFiles.open(tmp_path), "abc")


def state_of(step: int, training_id: str = "abc") -> dict:
    return {"training_id": training_id, "dynamic": {"step": step}}


def save(folder: CheckpointFolder, *steps: int, keep: int = 2, is_best: bool = False) -> None:
    for step in steps:
        folder.save(state_of(step), step, is_best=is_best, keep=keep)


def file_of(folder: CheckpointFolder, step: int) -> Path:
    return Path(folder.files.root) / "checkpoints" / "abc" / f"step_{step:08d}.pt"


def test_the_newest_are_kept_and_the_newest_is_read(folder: CheckpointFolder):
    assert folder.newest() is None
    save(folder, 5, 10, 15)
    assert folder.steps() == [10, 15]
    assert folder.newest() == state_of(15)


def test_a_damaged_one_of_a_later_step_is_none_of_those_that_are_kept(folder: CheckpointFolder):
    save(folder, 5, 20)
    file_of(folder, 20).write_bytes(b"damaged")
    for keep, kept in ((2, [10, 15]), (1, [15])):
        save(folder, 10, 15, keep=keep)
        assert folder.steps() == [*kept, 20]
        assert folder.newest() == state_of(15)


def test_the_best_outlives_the_newest(folder: CheckpointFolder):
    save(folder, 5, is_best=True)
    save(folder, 10, 15, 20)
    assert torch.load(file_of(folder, 5).with_name("best.pt"), weights_only=True) == state_of(5)
    assert folder.steps() == [15, 20]


def test_each_is_there_on_request(folder: CheckpointFolder):
    save(folder, 5)
    with pytest.raises(
        StoreError,
        match=r"abc/best\.pt: the best checkpoint is missing; train with --run\.evaluate-checkpoints, or take",
    ):
        folder.require("best", last_step=15)
    save(folder, 10, is_best=True)
    save(folder, 15)
    for which, step in (("best", 10), ("last", 15), (10, 10), (15, 15)):
        state, content = folder.require(which, last_step=15)
        assert state == decode(content) == state_of(step)
    with pytest.raises(StoreError, match=r"the checkpoint of step 5 is missing; there are those of steps 10, 15$"):
        folder.require(5, last_step=15)


AGAIN = r"move the trial's file in trials/ away and run its command again"


@pytest.mark.parametrize("is_damaged", [False, True])
def test_no_other_takes_the_last_ones_place(folder: CheckpointFolder, is_damaged: bool):
    """What is measured, exported or trained from would else be another trial's under this one's name."""
    save(folder, 5, 10)
    file = file_of(folder, 10)
    if is_damaged:
        file.write_bytes(file.read_bytes()[:100])
    else:
        file.unlink()
    how = r"is damaged \(BadZipFile\)" if is_damaged else "is missing"
    line = rf"abc/step_00000010\.pt: the checkpoint of step 10 \(the trial's last\) {how}; "
    rest = (
        rf"there is one of step 5: {AGAIN}, which goes on from it, or ask for that one \(--checkpoint 5, --model\.det"
    )
    with pytest.raises(StoreError, match=line + rest):
        folder.require("last", last_step=10)
    assert folder.require(5, last_step=10)[0] == state_of(5)
    file_of(folder, 5).unlink()
    with pytest.raises(StoreError, match=line + AGAIN + "$"):
        folder.require("last", last_step=10)


def test_one_in_anothers_place_is_told_by_both_names(folder: CheckpointFolder):
    save(folder, 5, 10, is_best=True)
    for name, step in (("step_00000010.pt", 10), ("best.pt", 10)):
        torch.save(state_of(step, "another"), file_of(folder, 10).with_name(name))
        with pytest.raises(
            StoreError, match=rf"abc/{name}: the checkpoint is of training 'another', not of 'abc'; move it away"
        ):
            folder.require("best" if name == "best.pt" else "last", last_step=10)
    file_of(folder, 10).write_bytes(file_of(folder, 5).read_bytes())
    with pytest.raises(
        StoreError, match=r"step_00000010\.pt: the checkpoint is of step 5, not of 10; move it away, or bring"
    ):
        folder.require("last", last_step=10)
    for foreign in ([1, 2], {"training_id": "abc"}, {"training_id": "abc", "dynamic": 5}):
        torch.save(foreign, file_of(folder, 10))
        with pytest.raises(StoreError, match=r"the checkpoint is of (training|step) None, not of"):
            folder.require("last", last_step=10)


@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "pickle"])
def test_a_damaged_checkpoint_is_passed_over(folder: CheckpointFolder, damage: str):
    save(folder, 5, 10)
    file = file_of(folder, 10)
    whole = file.read_bytes()
    file.write_bytes(
        {
            "empty": b"",
            "truncated": whole[: len(whole) // 2],
            "text": b"not a checkpoint",
            "pickle": pickle.dumps(Path("/tmp")),
        }[damage]
    )
    assert folder.newest() == state_of(5)
    file_of(folder, 5).unlink()
    assert folder.newest() is None


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory: x")]
)
def test_a_lack_of_memory_is_no_damage(folder: CheckpointFolder, error: Exception, monkeypatch: pytest.MonkeyPatch):
    """The run would go on from an older state, or from none, without need."""
    save(folder, 5, 10)

    def load(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(type(error)):
        folder.newest()


def test_a_file_that_may_not_be_read_is_no_damage(folder: CheckpointFolder):
    save(folder, 5, 10)

    class Forbidding:
        def __getattr__(self, name: str) -> object:
            return getattr(folder.files.filesystem, name)

        def open_input_file(self, path: str) -> None:
            raise PermissionError(13, "Permission denied", path)

    forbidden = CheckpointFolder(StoreFiles(Forbidding(), folder.files.root, ""), "abc")  # pyright: ignore[reportArgumentType]
    with pytest.raises(StoreError, match=r"step_00000010.pt cannot be read: .*Permission denied"):
        forbidden.newest()


def test_a_lack_of_memory_does_not_make_a_checkpoint_foreign(smoke: TrialConfig, monkeypatch: pytest.MonkeyPatch):
    state = build_training_state(prepared(smoke), 3, Worker())
    checkpoint = state.state_dict()

    def load(content: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(state.optimizer, "load_state_dict", load)
    with pytest.raises(torch.OutOfMemoryError):
        state.load_state_dict(checkpoint)


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/dynrcnn_ray_evil",)


def test_a_checkpoint_cannot_run_code(folder: CheckpointFolder):
    save(folder, 5)
    torch.save(state_of(10) | {"more": Evil()}, file_of(folder, 10))
    assert folder.newest() == state_of(5)
    assert not Path("/tmp/dynrcnn_ray_evil").exists()


FULL_DISK = """
import resource, signal, sys
from dynrcnn_ray.execution.checkpoints import CheckpointFolder, decode
from dynrcnn_ray.store.files import StoreError, StoreFiles
import torch
folder = CheckpointFolder(StoreFiles.open(sys.argv[1]), "abc")
folder.save({"step": 5}, 5, is_best=False, keep=2)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    folder.save({"step": 10, "weights": torch.zeros(1_000_000)}, 10, is_best=False, keep=2)
except StoreError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_full_disk_is_told_in_a_line_and_costs_nothing_that_was_there(folder: CheckpointFolder):
    """The operating system refuses to let the file grow, as it does on a full disk."""
    command = [sys.executable, "-c", FULL_DISK, folder.files.root]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    (line,) = done.stdout.strip().splitlines()
    assert "step_00000010.pt cannot be written: " in line
    assert "File too large" in line
    assert folder.steps() == [5]
    assert list((Path(folder.files.root) / ".partial").iterdir()) == []


def test_the_checkpoint_of_another_training_is_refused(smoke: TrialConfig):
    state = build_training_state(prepared(smoke), 3, Worker()).state_dict()
    other = build_training_state(prepared(change(smoke, train={"learning_rate": 0.5})), 3, Worker())
    with pytest.raises(
        CheckpointError, match=f"is of training '{prepared(smoke).training_id}', not of '{other.training_id}'"
    ):
        other.load_state_dict(state)
    with pytest.raises(CheckpointError, match="is of training None"):
        other.load_state_dict({"model": {}})


@pytest.mark.slow
def test_checkpoints_are_made_by_minutes_too(smoke: TrialConfig):
    steps: list[int] = []
    often = change(smoke, run={"checkpoint_every": 500, "checkpoint_minutes": 1e-9, "log_every": 4})
    run_to_end(often, Worker(), on_checkpoint=lambda state, _: steps.append(state.step))
    assert steps == [4, 8, 10]


@pytest.mark.slow
def test_evaluated_checkpoints_know_the_best_and_change_nothing(smoke: TrialConfig):
    best: list[bool] = []
    plain = run_to_end(smoke, Worker())
    evaluated = run_to_end(
        change(smoke, run={"evaluate_checkpoints": True}),
        Worker(),
        on_checkpoint=lambda state, is_best: best.append(is_best),
    )
    assert best[0]
    assert len(best) == 2
    assert evaluated.metrics == plain.metrics
    rows = without_clock(evaluated.history)
    assert rows[-1].pop("AP") == evaluated.metrics["AP"]
    assert rows == without_clock(plain.history)


@pytest.mark.slow
def test_a_checkpoint_that_is_wanted_at_once_is_not_evaluated(smoke: TrialConfig):
    """A node that is taken back leaves two minutes, and an evaluation may take longer."""
    made: list[tuple[int, bool]] = []
    run_to_end(
        change(smoke, run={"evaluate_checkpoints": True, "checkpoint_every": 4, "log_every": 2}),
        Worker(),
        on_checkpoint=lambda state, _: made.append((state.step, state.checkpoint_average_precision is not None)),
        wants_checkpoint=iter([False, False, True, False, True]).__next__,
    )
    assert made == [(4, True), (6, False), (8, True), (10, True)]


def test_no_checkpoint_of_a_run_that_has_diverged(smoke: TrialConfig):
    states: list[TrainingState] = []
    diverging = change(smoke, train={"learning_rate": 1e8}, run={"checkpoint_every": 3, "log_every": 1000})
    with pytest.raises(RuntimeError, match="not finite at step 3"):
        run_to_end(diverging, Worker(), on_checkpoint=lambda state, _: states.append(state))
    assert states == []
