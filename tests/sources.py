"""Source files as trees, for the tests of rules that all files keep."""

import ast
import functools
from pathlib import Path


@functools.cache
def parsed(file: Path) -> ast.Module:
    """A file's tree, made once in a process."""
    return ast.parse(file.read_text())
