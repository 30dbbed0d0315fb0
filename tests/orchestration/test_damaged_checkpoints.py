"""A resume through the command line where checkpoints are damaged or another's."""

from pathlib import Path

import pytest

from dynrcnn_ray.config import TrialConfig
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.engine.collectives import Worker
from dynrcnn_ray.engine.training import build_training_state
from dynrcnn_ray.engine.trial import run_trial
from dynrcnn_ray.orchestration.checkpoints import CheckpointFolder
from dynrcnn_ray.results.store import ResultStore
from experiments.figure1 import EXPERIMENT
from tests.orchestration.commands import run_command

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_damaged_ones_are_passed_over_and_foreign_ones_refused_at_once(
    cache_home: Path, smoke: TrialConfig, tmp_path: Path
):
    """Seed 0 has a whole checkpoint of step 5 and half of one; seed 1 has that of a model with one class more."""
    whole, foreign = (config for _, config in EXPERIMENT.trials(smoke, seeds=(0, 1)).values())
    store = ResultStore.open(tmp_path)
    passed_over, refused = (CheckpointFolder(store.files, config.training_id) for config in (whole, foreign))
    run_trial(
        whole,
        Worker(),
        on_checkpoint=lambda state, _: passed_over.save(state.state_dict(), state.step, is_best=False, keep=2),
    )
    newest = Path(passed_over.described) / "step_00000010.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    classes = CocoDataset(smoke.data.root, smoke.data.val_split).class_names
    refused.save(build_training_state(foreign, len(classes) + 1, Worker()).state_dict(), 5, is_best=False, keep=2)

    code, out = run_command(cache_home, "figure1", "--scale", "smoke", "--seeds", "0", "1", "--storage", str(tmp_path))

    assert code == 1, out
    assert f"{newest} is damaged and passed over (BadZipFile)\n" in out
    assert "goes on from the checkpoint of step 5\n" in out
    # Once: another attempt would only repeat it.
    failure = f"failed: CheckpointError: {refused.described}: the checkpoint does not fit this training's model"
    assert out.count(failure) == 1
    assert "Traceback" not in out
    trials = store.trials().set_index("seed")
    assert trials["status"].to_dict() == {0: "finished", 1: "failed"}
    assert "delete it, or bring back the right one" in trials.loc[1, "error"]
