"""What other processes have used (Linux)."""

import os
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process's parent, and the CPU seconds that it has used so far."""

    parent: int
    cpu_seconds: float


def read_process(process: int | str) -> Process:
    """A process by its id.

    Raises:
        OSError: there is none any more.
    """
    # The name of a process may hold spaces.
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return Process(int(fields[1]), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))
