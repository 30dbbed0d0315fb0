"""What is imported when: a command's module is light and its body is imported by name; all else stands at the top."""

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

from dynrcnn_ray.cli.program import program
from tests.sources import parsed

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "torchvision", "ray", "pandas", "pyarrow", "matplotlib", "scipy", "numpy")
WITHIN_FUNCTIONS = {
    # The program itself: somebody may press Ctrl-C while it is imported.
    "dynrcnn_ray/__main__.py": {"dynrcnn_ray.cli.program"},
    # ImageNet's weights alone need it, and a grid's own process reads the others without it.
    "dynrcnn_ray/models/backbone_weights.py": {"torchvision"},
    # A module that replaces no part of the package is tried without PyTorch.
    "dynrcnn_ray/models/tried_module.py": {"dynrcnn_ray.models.own_parts"},
    # An optional package.
    "benchmarks/evaluation.py": {"hotcoco"},
}
"""Who imports what within a function, besides execution/: what it hands to Ray is imported by Ray's processes, and a
grid's own process does without PyTorch, or without Ray where nothing is trained."""
BY_NAME = {
    # A public name is imported when it is used.
    "dynrcnn_ray/__init__.py",
    "dynrcnn_ray/cli/program.py",
    "dynrcnn_ray/config/extras.py",
    "dynrcnn_ray/options/command.py",
    # An experiment names the module of its figures.
    "dynrcnn_ray/report/figures.py",
    # Other libraries, which nobody need have.
    "benchmarks/peers.py",
}
"""Who imports by name."""


def sources() -> Iterator[tuple[str, ast.Module]]:
    for room in ("dynrcnn_ray", "benchmarks"):
        for file in sorted((ROOT / room).rglob("*.py")):
            yield file.relative_to(ROOT).as_posix(), parsed(file)


def imported_within_functions(tree: ast.Module) -> set[str]:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    nodes = [node for function in functions for node in ast.walk(function)]
    return {node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)} | {
        name.name for node in nodes if isinstance(node, ast.Import) for name in node.names
    }


def test_no_files_import_each_other_in_a_circle():
    """Nor within functions. Those for a type checker alone do not count."""
    graph = grimp.build_graph("dynrcnn_ray", "benchmarks", exclude_type_checking_imports=True, cache_dir=None)
    imported = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imported) > 300
    TopologicalSorter(imported).prepare()  # Raises CycleError, which names the circle.


def test_imports_stand_at_the_top():
    """But for a few that are named here, and in execution/."""
    found = {file: imported_within_functions(tree) for file, tree in sources()}
    found = {file: names for file, names in found.items() if names and not file.startswith("dynrcnn_ray/execution/")}
    assert found == WITHIN_FUNCTIONS


def test_only_the_dispatch_imports_by_name():
    """And what is somebody else's to choose: a public name, an extra, an experiment's figures."""
    named = {
        file
        for file, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Name)
        and (node.attr if isinstance(node, ast.Attribute) else node.id) in ("import_module", "__import__")
    }
    assert named == BY_NAME


@pytest.mark.parametrize("command", program().commands, ids=lambda command: command.name)
def test_a_command_names_a_function_that_is_there(command):
    """Nothing of it is imported here."""
    module, _, function = command.body.partition(":")
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = parsed(Path(spec.origin))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_commands_load_nothing_heavy():
    """So `--help` and a mistake are answered at once."""
    code = "import sys; from dynrcnn_ray.cli.program import program; program(); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(done.stdout.split())
