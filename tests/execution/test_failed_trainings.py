"""Trainings that fail without a death of a process: what is told, what the row holds, and the others go on."""

import re
from pathlib import Path
from typing import Any

import pytest

from dynrcnn_ray.config.stored import to_stored
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.execution import driver
from dynrcnn_ray.execution.checkpoints import CheckpointFolder
from dynrcnn_ray.execution.driver import drive_trial, record_lost_driver
from dynrcnn_ray.execution.failures import TrialFailure
from dynrcnn_ray.execution.job import TrialJob
from dynrcnn_ray.paper.figure1 import EXPERIMENT
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.state import build_training_state
from tests.execution.commands import Command
from tests.prepared import prepared
from tests.stored_table import trial_row
from tests.training.test_trial import change
from tests.trial_events import run_to_end


@pytest.mark.ray
@pytest.mark.slow
def test_none_stops_the_others(cache_home: Path, smoke: TrialConfig, tmp_path: Path):
    """Seed 0 has a whole and half a checkpoint, seed 1 one of a model with a class more, seed 2 too little memory."""
    base = change(smoke, train={"steps": 4}, run={"checkpoint_every": 2})
    whole, foreign = (trial for _, trial in EXPERIMENT.trials(prepared(base), seeds=(0, 1)).values())
    # One after the other: each process more takes seconds to start.
    command = Command(cache_home, tmp_path / "store", {"RAY_OVERRIDE_RESOURCES": '{"CPU": 1}'})
    store = ResultStore.open(command.storage)
    passed_over, refused = (CheckpointFolder(store.files, trial.training_id) for trial in (whole, foreign))
    run_to_end(
        whole,
        Worker(),
        on_checkpoint=lambda state, _: passed_over.save(state.state_dict(), state.step, is_best=False, keep=2),
    )
    newest = Path(passed_over.described) / "step_00000004.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    classes = CocoDataset(smoke.data.root, smoke.data.val_split).class_names
    refused.save(build_training_state(foreign, len(classes) + 1, Worker()).state_dict(), 2, is_best=False, keep=2)

    grid = ("figure1", "--scale", "smoke", "--train.steps", "4", "--run.checkpoint-every", "2")
    code, out = command.run(
        *grid, "--run.max-failures", "1", "--seeds", "0", "1", "2", dies={"out_of_memory": "nobody"}
    )

    assert code == 1, out
    trials = store.trials().set_index("seed")
    assert trials["status"].to_dict() == {0: "finished", 1: "failed", 2: "failed"}
    assert not list((command.storage / "running").iterdir())

    assert f"{newest} is damaged and passed over (BadZipFile)\n" in out
    assert "goes on from the checkpoint of step 2\n" in out

    # Once: another attempt would only repeat it.
    refusal = f"CheckpointError: {refused.described}: the checkpoint does not fit this training's model"
    assert out.count(f"failed: {refusal}") == 1
    assert trials.loc[1, "error"].startswith(refusal)
    assert "move it away, or bring back the right one" in trials.loc[1, "error"]

    # Another attempt might find more of it.
    assert out.count("interrupted: MemoryError; lower --run.loader-workers") == 2
    assert trials.loc[2, "error"].startswith("MemoryError; lower --run.loader-workers")
    assert "in detect_or_fail" in trials.loc[2, "traceback"]
    assert trials.loc[2, "last_good_step"] == 4


@pytest.mark.slow
def test_its_row_says_why_and_its_dynamics_what_led_there(
    smoke: TrialConfig, reports_of_drivers: list[dict[str, Any]], tmp_path: Path
):
    config = change(smoke, train={"learning_rate": 1e8}, run={"log_every": 1})
    drive_trial(TrialJob(prepared(config), "train", "trial", str(tmp_path), "", "unknown"))
    store = ResultStore.open(tmp_path)
    (trial,) = store.trials().to_dict("records")
    assert trial["status"] == "failed"
    diverged = re.match(r"TrainingDivergedError: the loss is not finite at step (\d+)", trial["error"])
    assert diverged, trial["error"]
    assert "in _check_finite" in trial["traceback"]
    assert reports_of_drivers[-1] == {"ending": trial["error"]}
    assert store.dynamics([prepared(config).trial_id])["step"].tolist() == list(range(1, int(diverged[1])))
    assert not list((tmp_path / "running").iterdir())


def test_a_failure_leaves_the_row_of_a_trial_that_another_command_has_finished(
    smoke: TrialConfig, reports_of_drivers: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = ResultStore.open(tmp_path)
    described = TrialJob(prepared(smoke), "train", "trial", str(tmp_path), "", "unknown")

    def finished_elsewhere(*given: Any) -> dict[str, Any]:
        store.write_trial(trial_row(prepared(smoke).trial_id, AP=65.0, config=to_stored(prepared(smoke))))
        store.write_running(
            trial_row(prepared(smoke).trial_id, status="running", AP=None, config=to_stored(prepared(smoke)))
        )
        raise TrialFailure("worker 1: its process or its node ended", "", would_repeat=True)

    monkeypatch.setattr(driver, "fit", finished_elsewhere)
    drive_trial(described)
    assert reports_of_drivers[-1] == {"ending": "finished"}
    record_lost_driver(described, TrialFailure("its process ended", ""))
    (row,) = store.trials_so_far().to_dict("records")
    assert (row["status"], row["AP"]) == ("finished", 65.0)
    assert not list((tmp_path / "running").iterdir())
