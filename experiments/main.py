"""The program `dynrcnn` from a checkout, installed or not: what a Ray job runs."""

import sys
from pathlib import Path

# The repository is importable whether or not it is installed, also in a Ray job's working directory.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dynrcnn_ray.__main__ import main, run

__all__ = ["main"]

if __name__ == "__main__":
    run()
