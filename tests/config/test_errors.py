"""The project's errors: one base, which says whether another attempt can help, and one way into a line."""

import ast
import builtins
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynrcnn_ray.cli import program
from dynrcnn_ray.config.errors import DynrcnnError, innermost_line, one_line, system_line
from tests.sources import parsed

ROOT = Path(__file__).parents[2]
FILES = [file for room in ("dynrcnn_ray", "experiments", "benchmarks") for file in sorted((ROOT / room).rglob("*.py"))]
BASE = "dynrcnn_ray/config/errors.py"


def name_of(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _classes() -> Iterator[tuple[str, ast.ClassDef]]:
    for file in FILES:
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.ClassDef):
                yield f"{file.relative_to(ROOT)}: {node.name}", node


def is_raised(name: str) -> bool:
    kind = getattr(builtins, name, None)
    return isinstance(kind, type) and issubclass(kind, BaseException)


@functools.cache
def errors() -> dict[str, ast.ClassDef]:
    """Every class that can be raised, also one that only inherits from such a class of the project."""
    classes = list(_classes())
    found = {where: node for where, node in classes if node.name.endswith(("Error", "Failure", "Exception"))}
    while True:
        names = {node.name for node in found.values()}
        new = {
            where: node
            for where, node in classes
            if where not in found and any(is_raised(name_of(each)) or name_of(each) in names for each in node.bases)
        }
        if not new:
            return {where: node for where, node in found.items() if node.name != "DynrcnnError"}
        found |= new


def test_every_error_is_one_of_the_project_and_says_whether_another_attempt_only_repeats_it():
    found = errors()
    assert len(found) > 20
    of_project = {"DynrcnnError"}
    while (
        new := {node.name for node in found.values() if {name_of(each) for each in node.bases} & of_project}
        - of_project
    ):
        of_project |= new
    assert not [where for where, node in found.items() if node.name not in of_project], "derive from DynrcnnError"
    silent = [
        where
        for where, node in found.items()
        if not any(
            isinstance(line, ast.Assign) and name_of(line.targets[0]) == "would_repeat" and hasattr(line.value, "value")
            for line in node.body
        )
    ]
    assert not silent, "state would_repeat = True or False"


def test_every_error_comes_whole_through_a_process():
    """An exception is pickled by its positional arguments: one that takes others has to say how it is restored."""
    methods = {
        where: {line.name for line in node.body if isinstance(line, ast.FunctionDef)}
        for where, node in errors().items()
    }
    assert not [where for where, own in methods.items() if "__init__" in own and "__reduce__" not in own]


def test_an_error_gets_into_a_line_in_one_place():
    """`str(error).split()` is what `one_line` is for."""
    copies = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in FILES
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (node.func.attr, node.args) == ("split", [])
        and isinstance(node.func.value, ast.Call)
        and name_of(node.func.value.func) == "str"
        and str(file.relative_to(ROOT)) != BASE
    ]
    assert not copies


def test_lines():
    assert one_line(ValueError("a\n  b\tc")) == "a b c"
    assert one_line(ValueError("a\n  b\tc"), 3) == "a b"
    assert one_line(KeyboardInterrupt()) == "KeyboardInterrupt"
    assert system_line(OSError(5, "Input/output error", "/a")) == "Input/output error"
    assert system_line(OSError("truncated\nfile")) == "truncated file"
    assert innermost_line(ValueError("a\nb")) == "ValueError: a b"
    assert innermost_line(MemoryError()) == "MemoryError"
    text = "Caught x.\nTraceback (most recent call last):\n  File y\nray.x.NodeDiedError: it is\ngone\n"
    assert innermost_line(RuntimeError(text)) == innermost_line(text) == "NodeDiedError: it is gone"
    assert innermost_line(ValueError("x" * 900), 200) == innermost_line(ValueError("x" * 900))[:200]


class WrongError(DynrcnnError, ValueError):
    would_repeat = True


class EndedError(DynrcnnError, RuntimeError):
    would_repeat = True


@pytest.mark.parametrize(("error", "code"), [(WrongError("a: b"), 2), (EndedError("a: b"), 1)])
def test_the_program_tells_an_error_of_the_project_wherever_its_class_stands(capsys, monkeypatch, error, code: int):
    def fails(*_):
        raise error

    monkeypatch.setattr(program, "parse", fails)
    assert program.main(["list"]) == code
    assert capsys.readouterr().err == "error: a: b\n"


@pytest.mark.parametrize("error", [ValueError("a"), KeyError("a"), OSError(5, "a")])
def test_any_other_error_is_a_fault_of_the_program(monkeypatch, error: Exception):
    def fails(*_):
        raise error

    monkeypatch.setattr(program, "parse", fails)
    with pytest.raises(type(error)):
        program.main(["list"])
