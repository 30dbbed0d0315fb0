"""What a grid's own process loads: PyTorch takes seconds, and only its trials' processes need it."""

import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import sys
import dynrcnn_ray.execution.run, dynrcnn_ray.data.prepare
from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.execution.required_models import require_models
from dynrcnn_ray.execution.trials import quiet_run
from dynrcnn_ray.store.results_store import ResultStore
from ray import tune
from ray.air._internal import usage

trial = Trial(base_config("smoke"))
require_models([trial], ResultStore.open(sys.argv[1]))
run = quiet_run("grid", trial.config.run, sys.argv[1], [tune.Callback()])
usage.tag_callbacks(run.callbacks)  # As Tune does when it begins.
print({"torch", "torchvision", "mlflow"} & set(sys.modules))
"""


@pytest.mark.slow
def test_a_grids_own_process_loads_neither_pytorch_nor_mlflow(tmp_path: Path):
    """Nor does it to see that its models can be had, where nothing pretrained is asked for."""
    command = [sys.executable, "-c", _PROGRAM, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"
