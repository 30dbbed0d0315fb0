"""The code's commit, for the rows of the store."""

import os
import subprocess
from pathlib import Path

VARIABLE = "DYNRCNN_COMMIT"
"""The environment variable that hands the commit to where git does not know it: a submitted job, or an image."""
UNKNOWN = "unknown"
_REPOSITORY = Path(__file__).resolve().parents[2]


def git_commit(repository: Path = _REPOSITORY) -> str:
    """The commit of a checkout, marked if there are changes on top of it.

    Outside a checkout, or without git, what `DYNRCNN_COMMIT` says; else `unknown`.
    """
    handed_over = os.environ.get(VARIABLE, "").strip() or UNKNOWN
    if not (repository / ".git").exists():  # Git would look further up, and find another project's.
        return handed_over
    command = ["git", "-C", str(repository), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return handed_over
    return described.stdout.strip() or handed_over


def say_if_unknown(commit: str) -> None:
    """Say so before hours of training: rows without a commit cannot be traced later."""
    if commit == UNKNOWN:
        print(
            f"note: the code's commit is not known here, and the rows will not carry it; set {VARIABLE}, for example "
            f"`ray job submit ... -- env {VARIABLE}=$(git describe --always --dirty) python experiments/main.py ...`",
            flush=True,
        )
