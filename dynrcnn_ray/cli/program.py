"""The program: `dynrcnn`, `python -m dynrcnn_ray`, and `python experiments/main.py` from a checkout."""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import dynrcnn_ray
import dynrcnn_ray.tools
from dynrcnn_ray.config.errors import DynrcnnError
from dynrcnn_ray.options.command import PROGRAM_NAME, Call, Command, Program
from dynrcnn_ray.options.parsing import parse

_ROOMS = (
    "dynrcnn_ray.paper.commands",
    "dynrcnn_ray.execution.commands",
    "dynrcnn_ray.commands",
)
"""The modules that bring commands, besides the tools."""
_BENCHMARKS = "benchmarks.command"
"""For developers: in a checkout, not in the wheel."""


def main(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name.

    Returns:
        The exit code: 0 done, 1 a trial failed, 2 the command was wrong. See `signals` for 130, 141 and 143.
    """
    try:
        called = program()
        command, options = parse(called, arguments)
        return command.run(options, Call(command.name, tuple(arguments[1:]), called))
    except SystemExit as stop:  # After --help.
        return int(stop.code or 0)
    except DynrcnnError as error:
        # What is wrong, in one line: a user's mistake, or a training that failed. Any other error is a fault of the
        # program and shows its traceback.
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1


def program() -> Program:
    """The program with all of its commands."""
    return Program(
        name=PROGRAM_NAME,
        description="Dynamic R-CNN on Ray: run the paper's tables, or an experiment of your own, and look at what came "
        "out. Every command takes --help.",
        commands=tuple(_commands()),
    )


def _commands() -> Iterator[Command]:
    for name in [*_ROOMS, *_tools(), *_developers()]:
        module = importlib.import_module(name)
        yield from getattr(module, "COMMANDS", None) or (module.COMMAND,)


def _tools() -> list[str]:
    """A tool is a folder of `tools/`; its command goes with it."""
    found = pkgutil.iter_modules(dynrcnn_ray.tools.__path__)
    return [f"dynrcnn_ray.tools.{tool.name}.command" for tool in found if tool.ispkg]


def _developers() -> list[str]:
    root = Path(dynrcnn_ray.__file__).parents[1]
    if not (root / "benchmarks" / "command.py").is_file():
        return []
    if str(root) not in sys.path:
        # An editable install knows the package alone.
        sys.path.append(str(root))
    return [_BENCHMARKS]
