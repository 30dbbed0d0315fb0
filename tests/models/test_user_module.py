"""A detector of somebody's own trains in the place of the package's."""

from pathlib import Path

import pytest

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.models.user_module import ModuleError, identify_module
from dynrcnn_ray.training.collectives import Worker
from tests.training.test_trial import change
from tests.trial_events import run_to_end

MODULE = """
from pathlib import Path
from dynrcnn_ray.models.detector import build_model as packaged

def build_model(config, num_classes, dynamic):
    model = packaged(config, num_classes, dynamic)
    model.roi_heads.nms_thresh = 0.123
    Path(__file__).with_suffix(".built").write_text(str(num_classes))
    return model
"""


@pytest.fixture
def trial(smoke: TrialConfig, tmp_path: Path) -> TrialConfig:
    file = tmp_path / "mine.py"
    file.write_text(MODULE)
    trial = change(smoke, model={"module": str(file)}, train={"steps": 2})
    return change(trial, model={"module_fingerprint": identify_module(trial.model).module_fingerprint})


def test_it_is_trained_and_evaluated(trial: TrialConfig, tmp_path: Path):
    assert run_to_end(trial, Worker()).history[-1]["step"] == 2
    assert (tmp_path / "mine.built").read_text() == "6"


def test_another_file_than_the_trial_began_with_is_refused(trial: TrialConfig, tmp_path: Path):
    (tmp_path / "mine.py").write_text(MODULE + "\n#\n")
    with pytest.raises(ModuleError, match=r"on this machine, but the trial began with .*; bring the same file"):
        run_to_end(trial, Worker())


def test_where_the_file_is_does_not_count_but_its_content_does(trial: TrialConfig, smoke: TrialConfig):
    same = change(smoke, train={"steps": 2})
    assert trial.trial_id != same.trial_id
    assert change(trial, model={"module": "/elsewhere.py"}).trial_id == trial.trial_id
    assert change(trial, model={"module_fingerprint": "0"}).trial_id != trial.trial_id


def test_a_module_without_the_function_is_refused(trial: TrialConfig, tmp_path: Path):
    (tmp_path / "mine.py").write_text("")
    with pytest.raises(ModuleError, match="has no function build_model"):
        run_to_end(change(trial, model={"module_fingerprint": ""}), Worker())
