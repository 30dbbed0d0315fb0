"""Results that are kept in the cache as JSON, with a checksum in front."""

import contextlib
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from dynrcnn_ray.data.owner import is_another_users
from dynrcnn_ray.options.output import write_whole


def recall(file: Path) -> Any:
    """What `remember` has written; None where there is nothing, or nothing that can be trusted."""
    if is_another_users(file):
        return None
    try:
        checksum, _, content = file.read_bytes().partition(b"\n")
    except OSError:
        return None
    if hashlib.sha256(content).hexdigest().encode() == checksum:
        return json.loads(content)
    say_damaged(file, "does not match its checksum")
    return None


def remember(file: Path, value: Any) -> None:
    """Keep a value; where the cache cannot be written, it is found out again each time."""
    content = json.dumps(value).encode()
    with contextlib.suppress(OSError):
        write_whole(file, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def say_damaged(path: Path, problem: str) -> None:
    """Say that a file of the cache is not used, but made anew."""
    print(f"{path}: {problem}; it is made anew", file=sys.stderr, flush=True)
