"""Packages that only some commands need: optional extras of this one."""

import importlib
import warnings
from typing import Any

from dynrcnn_ray.config.errors import DynrcnnError


class MissingExtraError(DynrcnnError, ValueError):
    """A package that is not installed. Its text is one line that names the extra."""

    would_repeat = True


def import_extra(module: str, extra: str) -> Any:
    """Import a module of an optional extra.

    Args:
        module: its name.
        extra: the extra of this package that brings it.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # Such as that yet another package would be faster.
            return importlib.import_module(module)
    except ImportError as error:
        if error.name is None or module.partition(".")[0] != error.name.partition(".")[0]:
            raise
        raise MissingExtraError(
            f"the package {module.partition('.')[0]!r} is not installed; pip install 'dynrcnn-ray[{extra}]'"
        ) from None
