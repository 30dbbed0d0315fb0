"""Names of other packages that are not public: each package's stand in one place, are there, and are pinned."""

import ast
import importlib
import inspect
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from ray._private.node import Node
from ray._private.parameter import RayParams
from ray._private.state import GlobalState
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2._internal.execution.controller.state import ReschedulingState
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.tune.integration.ray_train import TuneReportCallback
from torchvision.models.detection.rpn import RegionProposalNetwork
from tyro._arguments import ArgumentDefinition, LoweredArgumentDefinition
from tyro._errors import BadValue, InstantiationFailure, InvalidChoice, UnrecognizedArgs

from tests.sources import parsed

ROOT = Path(__file__).parents[2]
PLACES = {
    "ray": ["dynrcnn_ray/execution/ray_private.py", "dynrcnn_ray/execution/tune_private.py"],
    "torchvision": ["dynrcnn_ray/models/torchvision_private.py"],
    "tyro": ["dynrcnn_ray/options/tyro_private.py"],
}
PRIVATE_FILES = [file for files in PLACES.values() for file in files]
FILES = [file for room in ("dynrcnn_ray", "experiments", "benchmarks") for file in sorted((ROOT / room).rglob("*.py"))]
DOCUMENTED = {"_replace", "_asdict", "_fields", "_make", "_exit"}
"""Of Python itself, of named tuples and `os`."""


def imported(tree: ast.AST) -> dict[str, str]:
    """What a file imports from other packages: the whole name of each, by the name that it has there."""
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
        for alias in node.names
        if node.module.partition(".")[0] not in {*sys.stdlib_module_names, "dynrcnn_ray", "experiments", "benchmarks"}
    }


def used(tree: ast.AST) -> Iterator[str]:
    """Whole names that a file uses of other packages."""
    names = imported(tree)
    yield from names.values()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
            yield f"{names[node.value.id]}.{node.attr}"


def found(name: str) -> Any:
    """What has this whole name; the part of it that is missing is raised.

    Raises:
        AttributeError: naming the shortest name that is not there.
    """
    parts = name.split(".")
    thing: Any = importlib.import_module(parts[0])
    for length, part in enumerate(parts[1:], start=2):
        here = ".".join(parts[:length])
        if length < len(parts) and here in sys.modules:
            # Its package may have a function of the same name, as `ray.util` has.
            thing = sys.modules[here]
            continue
        if not hasattr(thing, part):
            try:
                importlib.import_module(here)
            except ModuleNotFoundError:
                raise AttributeError(here) from None
        thing = getattr(thing, part)
    return thing


NAMES = [(file, name) for file in PRIVATE_FILES for name in sorted(set(used(parsed(ROOT / file))))]


@pytest.mark.parametrize(("file", "name"), NAMES, ids=[name for _, name in NAMES])
def test_a_name_that_is_not_public_is_there(file: str, name: str):
    try:
        found(name)
    except AttributeError as error:
        pytest.fail(f"{error} has gone; {file} uses {name}")


ATTRIBUTES = [
    ("dynrcnn_ray/models/torchvision_private.py", RegionProposalNetwork, "_pre_nms_top_n"),
    ("dynrcnn_ray/models/torchvision_private.py", RegionProposalNetwork, "_post_nms_top_n"),
    ("dynrcnn_ray/models/torchvision_private.py", RegionProposalNetwork, "_get_top_n_idx"),
    ("dynrcnn_ray/execution/ray_private.py", Node, "start_monitor"),
    ("dynrcnn_ray/execution/ray_private.py", Node, "start_log_monitor"),
    ("dynrcnn_ray/execution/ray_private.py", Node, "start_api_server"),
    ("dynrcnn_ray/execution/ray_private.py", Node, "start_raylet"),
    ("dynrcnn_ray/execution/ray_private.py", Node, "_ray_params"),
    ("dynrcnn_ray/execution/ray_private.py", RayParams, "dashboard_agent_listen_port"),
    ("dynrcnn_ray/execution/ray_private.py", GlobalState, "_connect_and_get_accessor"),
    ("dynrcnn_ray/execution/tune_private.py", TuneReportCallback, "_training_actor_item_queue"),
    ("dynrcnn_ray/execution/tune_private.py", ReschedulingState, "training_failed_error"),
    ("dynrcnn_ray/execution/tune_private.py", TorchTrainer, "_create_default_callbacks"),
    ("dynrcnn_ray/execution/tune_private.py", TorchTrainer, "_initialize_and_run_controller"),
    ("dynrcnn_ray/execution/tune_private.py", FixedScalingPolicy, "after_controller_start"),
    ("dynrcnn_ray/execution/tune_private.py", FixedScalingPolicy, "_maybe_send_resource_request"),
    ("dynrcnn_ray/execution/failures.py", WorkerHealthCheckFailedError, "health_check_failure"),
    ("dynrcnn_ray/options/parsing.py", UnrecognizedArgs, "tokens"),
    ("dynrcnn_ray/options/parsing.py", InvalidChoice, "argument"),
    ("dynrcnn_ray/options/parsing.py", InvalidChoice, "choices"),
    ("dynrcnn_ray/options/parsing.py", InvalidChoice, "value"),
    ("dynrcnn_ray/options/parsing.py", BadValue, "argument"),
    ("dynrcnn_ray/options/parsing.py", BadValue, "offending_value"),
    ("dynrcnn_ray/options/parsing.py", InstantiationFailure, "argument"),
    ("dynrcnn_ray/options/parsing.py", InstantiationFailure, "message"),
    ("dynrcnn_ray/options/parsing.py", ArgumentDefinition, "display_name"),
    ("dynrcnn_ray/options/parsing.py", ArgumentDefinition, "lowered"),
    ("dynrcnn_ray/options/parsing.py", LoweredArgumentDefinition, "metavar"),
]
"""What is used of objects: the file, the object's class, the name."""


@pytest.mark.parametrize(
    ("file", "kind", "name"), ATTRIBUTES, ids=[f"{kind.__name__}.{n}" for _, kind, n in ATTRIBUTES]
)
def test_an_attribute_that_is_not_public_is_there(file: str, kind: type, name: str):
    is_there = hasattr(kind, name) or f"self.{name} = " in inspect.getsource(kind)
    is_there |= any(name in vars(each).get("__annotations__", {}) for each in kind.__mro__)
    assert is_there, f"{kind.__module__}.{kind.__name__}.{name} has gone; {file} uses it"


def test_the_attributes_above_are_all_that_the_files_use():
    for file in PRIVATE_FILES:
        tree = parsed(ROOT / file)
        names = {name.rpartition(".")[2] for name in used(tree)}
        private = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr[0] == "_"}
        assert private - names <= {name for where, _, name in ATTRIBUTES if where == file}


def is_private(name: str) -> bool:
    return any(part.startswith("_") and not part.startswith("__") for part in name.split("."))


def private_names(tree: ast.AST) -> Iterator[str]:
    """Names with a leading underscore that a file uses and does not define itself."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    own |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own | DOCUMENTED:
            yield ast.unparse(node)
        if isinstance(node, ast.ImportFrom):
            yield from (
                f"{node.module}.{alias.name}" for alias in node.names if is_private(f"{node.module}.{alias.name}")
            )
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if is_private(alias.name))


def test_names_that_are_not_public_stand_in_these_files_alone():
    """A name of the project that another of its files takes has no underscore either."""
    elsewhere = [
        f"{file.relative_to(ROOT)}: {name}"
        for file in FILES
        if str(file.relative_to(ROOT)) not in PRIVATE_FILES
        for name in private_names(parsed(file))
    ]
    assert not elsewhere, "take it from one of the files of PLACES, or a public name"


def test_the_rule_sees_every_way_to_a_private_name():
    text = "from a._b import c\nfrom a import _d\nimport a._e\na._f\na.b._g()\nclass X:\n    def h(self):\n        "
    assert len(list(private_names(ast.parse(text + "self._i")))) == 6
    own = "class X:\n    def __init__(self):\n        self._a = 1\n    def b(self):\n        return self._a\n"
    assert not list(private_names(ast.parse(own)))


def test_rays_api_for_developers_stands_in_these_files_alone():
    for_developers = [
        f"{file.relative_to(ROOT)}: {name}"
        for file in FILES
        if str(file.relative_to(ROOT)) not in PRIVATE_FILES
        for name in set(of_ray(parsed(file)))
        if is_for_developers(name)
    ]
    assert not for_developers, "take it from execution/ray_private.py or tune_private.py"
    assert is_for_developers("ray.nodes")
    assert list(of_ray(ast.parse("import ray\nray.nodes()\nfrom ray.tune.search import Searcher"))) == [
        "ray.tune.search.Searcher",
        "ray.nodes",
    ]


def of_ray(tree: ast.AST) -> Iterator[str]:
    yield from (name for name in used(tree) if name.partition(".")[0] == "ray")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.fullmatch(r"ray(\.\w+)+", name := ast.unparse(node)):
            yield name


def is_for_developers(name: str) -> bool:
    kind = getattr(found(name), "_annotated_type", None)
    return getattr(kind, "name", "") == "DEVELOPER_API" and "_annotated_type" in vars(found(name))


@pytest.mark.parametrize("package", PLACES)
def test_their_packages_are_pinned_to_the_minor_version_that_the_tests_run_with(package: str):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    requirements = [
        Requirement(line) for line in [*project["dependencies"], *(line for each in extras for line in each)]
    ]
    ours = [requirement for requirement in requirements if requirement.name == package]
    assert ours
    here = Version(version(package))
    for requirement in ours:
        assert requirement.specifier.contains(here), requirement
        for major, minor in ((here.major, here.minor + 1), (here.major, here.minor - 1), (here.major + 1, 0)):
            assert minor < 0 or not requirement.specifier.contains(f"{major}.{minor}.0"), requirement
