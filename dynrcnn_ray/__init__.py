"""Dynamic R-CNN (Zhang et al., ECCV 2020) on Ray: training dynamics that can be reproduced, ablated and scaled.

The names of `__all__` are the package's Python interface; docs/python.md shows each. They are imported when they are
first used: the program and a script that wants one of them wait for no other.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynrcnn_ray.api.dynamic_training import DynamicTraining
    from dynrcnn_ray.api.load import LoadedDetector, load
    from dynrcnn_ray.api.make_dynamic import make_dynamic
    from dynrcnn_ray.api.store import Store

__version__ = "0.1.0"
__all__ = ["DynamicTraining", "LoadedDetector", "Store", "load", "make_dynamic"]

_MODULES = {
    "DynamicTraining": "dynamic_training",
    "LoadedDetector": "load",
    "Store": "store",
    "load": "load",
    "make_dynamic": "make_dynamic",
}
"""Where each name is, below `api/`."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"dynrcnn_ray.api.{_MODULES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
