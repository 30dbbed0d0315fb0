"""The commands, one a file: each module holds a `COMMAND`."""

import importlib
import pkgutil
from typing import Any

from dynrcnn_ray.command_line.command import Command


def commands() -> tuple[Command[Any], ...]:
    """All of them, by name."""
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    return tuple(module.COMMAND for module in modules)
