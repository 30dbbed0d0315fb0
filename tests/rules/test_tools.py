"""A tool is a folder: with it its command goes, and nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dynrcnn_ray

_ALL_IMPORT = """
import importlib, pkgutil, sys
import dynrcnn_ray
from dynrcnn_ray.cli.program import program
for found in pkgutil.walk_packages(dynrcnn_ray.__path__, "dynrcnn_ray."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
print(*(command.name for command in program().commands))
"""
PACKAGE = Path(dynrcnn_ray.__file__).parent


@pytest.mark.slow
def test_each_tool_can_be_removed_with_its_folder(tmp_path: Path) -> None:
    """All at once: whatever needs one would not be imported."""
    copy = tmp_path / "dynrcnn_ray"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    tools = [folder for folder in (copy / "tools").iterdir() if (folder / "command.py").is_file()]
    assert len(tools) == 7
    for tool in tools:
        shutil.rmtree(tool)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", _ALL_IMPORT]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    left = done.stdout.split()
    assert {"table3", "train", "report", "check-data"} <= set(left)
    assert not {"predict", "export", "inspect", "compare", "convert-data", "evaluate", "pretrain"} & set(left)
