"""Dynamic R-CNN on Ray: the paper's tables and figures, and all that `dynrcnn` has."""

import sys
from collections.abc import Sequence
from pathlib import Path

# The repository is importable whether or not it is installed, also in a Ray job's working directory.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dynrcnn_ray.command_line.endings import run_command


def main(arguments: Sequence[str]) -> int:
    """Run one command.

    Returns:
        The exit code.
    """
    # Imported late: it takes a moment, in which somebody may press Ctrl-C.
    from dynrcnn_ray.command_line.program import run_program
    from experiments.paper import PROGRAM

    return run_program(PROGRAM, arguments)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
