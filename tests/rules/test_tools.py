"""A tool is a folder: with it its command goes, and nothing else."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dynrcnn_ray
from tests.rules.test_named_places import NOT_PYTHON, is_there
from tests.sources import parsed

PACKAGE = Path(dynrcnn_ray.__file__).parent
TOOLS = {"predict", "export", "inspect", "compare", "convert", "evaluate", "pretrain"}
_COMMANDS = "from dynrcnn_ray.cli.program import program; print(*(command.name for command in program().commands))"


@pytest.fixture
def without_tools(tmp_path: Path) -> Path:
    """The package without any: whatever needs one lacks it."""
    copy = tmp_path / "dynrcnn_ray"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    tools = [folder for folder in (copy / "tools").iterdir() if (folder / "command.py").is_file()]
    assert {tool.name for tool in tools} == TOOLS
    for tool in tools:
        shutil.rmtree(tool)
    return copy


def test_the_commands_of_the_others_stay(without_tools: Path) -> None:
    root = without_tools.parent
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", _COMMANDS]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    left = done.stdout.split()
    assert {"table3", "train", "report", "check-data"} <= set(left)
    assert not {"predict", "export", "inspect", "compare", "convert-data", "evaluate", "pretrain"} & set(left)


def own_modules(file: Path) -> Iterator[str]:
    """What a file imports of the package, at its top or within a function, or names in a text as what to import."""
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            yield node.value.partition(":")[0]


def test_every_module_of_the_others_finds_what_it_imports(without_tools: Path) -> None:
    files = list(without_tools.rglob("*.py"))
    needed = {
        (str(file), name)
        for file in files
        for name in own_modules(file)
        if name.startswith("dynrcnn_ray.") and name not in NOT_PYTHON
    }
    assert len(needed) > 500
    assert not sorted((file, name) for file, name in needed if not is_there(name, without_tools.parent))
