"""The command `dynrcnn`, and `python -m dynrcnn_ray`: everything but a paper's own tables."""

import sys
from collections.abc import Sequence

from dynrcnn_ray.command_line.endings import run_command

DESCRIPTION = "Dynamic R-CNN on Ray: train, compare and tabulate. Every command takes --help."


def main(arguments: Sequence[str]) -> int:
    """Run one command.

    Returns:
        The exit code.
    """
    # Imported late: it takes a moment, in which somebody may press Ctrl-C.
    from dynrcnn_ray.command_line.command import Program
    from dynrcnn_ray.command_line.program import run_program
    from dynrcnn_ray.commands import commands

    own = tuple(command for command in commands() if not command.of_paper)
    return run_program(Program("dynrcnn", DESCRIPTION, own), arguments)


def run() -> None:
    """Run as this process's only work."""
    sys.exit(run_command(main, sys.argv[1:]))


if __name__ == "__main__":
    run()
