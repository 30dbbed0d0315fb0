"""A command called with arguments as they are typed, without what a program does about its mistakes."""

from typing import Any

from dynrcnn_ray.cli.program import program
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.parsing import parse


def call(command: Command[Any], *arguments: str) -> int:
    """Its exit code; a mistake is raised."""
    called = program()
    _, options = parse(called, [command.name, *arguments])
    return command.run(options, Call(command.name, arguments, called))
