"""Runs one command of a program."""

import sys
from collections.abc import Sequence

from dynrcnn_ray.command_line.command import Call, Program
from dynrcnn_ray.command_line.parsing import parse


def run_program(program: Program, arguments: Sequence[str]) -> int:
    """Run the command that the arguments name.

    Returns:
        The exit code: 0 done, 1 a trial failed, 2 the command was wrong. See `endings` for 130, 141 and 143.
    """
    try:
        command, options = parse(program, arguments)
        return command.run(options, Call(program, command.name, tuple(arguments[1:])))
    except SystemExit as stop:  # After --help.
        return int(stop.code or 0)
    except ValueError as error:
        # A user's mistake: what is wrong, in one line. Anything else is ours and shows its traceback.
        if not getattr(type(error), "__module__", "").startswith("dynrcnn_ray"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
