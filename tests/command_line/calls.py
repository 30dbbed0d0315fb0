"""A command called with arguments as they are typed, without what a program does about its mistakes."""

from typing import Any

from dynrcnn_ray.command_line.command import Call, Command, Program
from dynrcnn_ray.command_line.parsing import parse
from dynrcnn_ray.commands import commands


def call(command: Command[Any], *arguments: str) -> int:
    """Its exit code; a mistake is raised."""
    program = Program("dynrcnn", "", commands())
    _, options = parse(program, [command.name, *arguments])
    return command.run(options, Call(program, command.name, arguments))
