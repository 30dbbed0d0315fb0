"""What a grid's own process loads: PyTorch takes seconds, and only its trials' processes need it."""

import subprocess
import sys

_OF_A_GRID = "dynrcnn_ray.command_line.running, dynrcnn_ray.data.prepare, dynrcnn_ray.orchestration.grid"


def test_a_grids_own_process_loads_no_pytorch():
    program = f"import sys, {_OF_A_GRID}; print({{'torch', 'torchvision'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "set()\n"
