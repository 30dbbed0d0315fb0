"""Under Ray, what a user's module changes in the package stays in its own trials."""

from pathlib import Path

import pytest

from dynrcnn_ray.config.stored import from_stored
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.training.collectives import Worker
from tests.execution.commands import Command
from tests.trial_events import run_to_end

OTHER_LOSS = """
from dynrcnn_ray.models import roi_heads
from dynrcnn_ray.models.detector import build_model as packaged

of_the_package = roi_heads.box_losses

def another(*arguments, **named):
    return {name: 100 * loss for name, loss in of_the_package(*arguments, **named).items()}

def build_model(config, num_classes, dynamic):
    roi_heads.box_losses = another
    return packaged(config, num_classes, dynamic)
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_trial_without_the_module_after_one_with_it_is_as_alone(cache_home: Path, smoke: TrialConfig, tmp_path: Path):
    """One trial at a time, so that a kept driver would have run the module before."""
    file = tmp_path / "mine.py"
    file.write_text(OTHER_LOSS)
    command = Command(cache_home, tmp_path / "store")
    axis = ("--axis", "model.module", str(file), "")
    limits = ("--run.cpus-per-worker", "2", "--train.steps", "2", "--run.log-every", "1")
    code, out = command.run("grid", "--name", "mine", "--scale", "smoke", *axis, *limits)
    assert code == 0, out

    store = ResultStore.open(command.storage)
    trials = [from_stored(row["config"]) for row in store.trials().to_dict("records")]
    with_module, plain = sorted(trials, key=lambda trial: not trial.config.model.module)
    losses = {trial: store.dynamics([trial.trial_id])["loss"].tolist() for trial in trials}
    # This process has one thread, the driver had two.
    assert losses[plain] == pytest.approx([row["loss"] for row in run_to_end(plain, Worker()).history], rel=1e-3)
    assert losses[with_module][0] > 10 * losses[plain][0]
