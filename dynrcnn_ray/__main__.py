"""The command `dynrcnn`, and `python -m dynrcnn_ray`."""

import sys
from collections.abc import Sequence

from dynrcnn_ray.cli.signals import run_command


def main(arguments: Sequence[str]) -> int:
    """Run one command.

    Returns:
        The exit code.
    """
    # Imported late: it takes a moment, in which somebody may press Ctrl-C.
    from dynrcnn_ray.cli.program import main as run

    return run(arguments)


def run() -> None:
    """Run as this process's only work."""
    sys.exit(run_command(main, sys.argv[1:]))


if __name__ == "__main__":
    run()
