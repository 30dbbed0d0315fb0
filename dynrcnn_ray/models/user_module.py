"""A detector of somebody's own: a Python file whose `build_model` takes the place of the package's."""

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from dynrcnn_ray.config.sections import ModelConfig
from dynrcnn_ray.models.weights import fingerprint_of_file


class ModuleError(ValueError):
    """A Python file that cannot be used. Its text is one line: the file, what it lacks."""


def load_module(path: str, what: str) -> ModuleType:
    """Import a Python file by its path.

    Args:
        path: the file.
        what: which field or flag names it, for errors.

    Raises:
        ModuleError: it is not there, or ends with an error.
    """
    file = Path(path).expanduser().absolute()
    if not file.is_file():
        raise ModuleError(f"{what}: {path!r} is no file")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ModuleError(f"{what}: {path!r} is no Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # Whatever the file does.
        raise ModuleError(
            f"{what}: {path!r} ends with {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error
    return module


def identify_module(config: ModelConfig) -> ModelConfig:
    """The same configuration with the fingerprint of its module's content, and the absolute path.

    Raises:
        ModuleError: the file is not there.
    """
    if not config.module:
        return config
    file = Path(config.module).expanduser().absolute()
    if not file.is_file():
        raise ModuleError(f"model.module: {config.module!r} is no file")
    return dataclasses.replace(config, module=str(file), module_fingerprint=fingerprint_of_file(file))


def model_builder(config: ModelConfig, default: Callable[..., Any]) -> Callable[..., Any]:
    """What builds the detector: the `build_model` of the configuration's module, else the default.

    It takes what `models.detector.build_model` takes, and what it returns must train and detect as that does:
    torchvision's interface, with `roi_heads.dynamic` where Algorithm 1 is to be recorded.

    Raises:
        ModuleError: the module has none, or is not that of the fingerprint.
    """
    if not config.module:
        return default
    found = identify_module(config).module_fingerprint
    if config.module_fingerprint not in ("", found):
        raise ModuleError(
            f"model.module: {config.module!r} has the fingerprint {found} on this machine, but the trial began with "
            f"{config.module_fingerprint}; bring the same file to every node"
        )
    builder = getattr(load_module(config.module, "model.module"), "build_model", None)
    if not callable(builder):
        raise ModuleError(f"model.module: {config.module!r} has no function build_model(config, num_classes, dynamic)")
    return builder
