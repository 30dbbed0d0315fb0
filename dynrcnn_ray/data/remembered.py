"""What was found out once and is kept in the cache as JSON, with a checksum in front."""

import contextlib
import hashlib
import json
import sys
import uuid
from pathlib import Path
from typing import Any

from dynrcnn_ray.data.owner import is_another_users


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
    partial = file.with_name(f".{file.name}-{uuid.uuid4().hex}")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)


def say_damaged(path: Path, problem: str) -> None:
    """Name something of the cache that is not used, but made anew."""
    print(f"{path}: {problem}; it is made anew", file=sys.stderr, flush=True)
