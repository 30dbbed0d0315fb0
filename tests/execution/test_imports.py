"""What a grid's own process loads: PyTorch takes seconds, and only its trials' processes need it."""

import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import sys
import dynrcnn_ray.execution.run, dynrcnn_ray.data.prepare, dynrcnn_ray.execution.trials
from dynrcnn_ray.execution.required_models import require_models
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.trial import Trial

require_models([Trial(base_config("smoke"))], ResultStore.open(sys.argv[1]))
print({"torch", "torchvision"} & set(sys.modules))
"""


@pytest.mark.slow
def test_a_grids_own_process_loads_no_pytorch(tmp_path: Path):
    """Nor does it to see that its models can be had, where nothing pretrained is asked for."""
    command = [sys.executable, "-c", _PROGRAM, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"
