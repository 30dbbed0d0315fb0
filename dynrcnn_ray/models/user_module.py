"""A Python file of somebody's own, whose detector or training rules take the place of the package's.

Such a file may change anything in the process that runs it, a loss of the package for one. So a process that has run
one builds no model of another file, and none of the package's own.
"""

import hashlib
import sys
from pathlib import Path
from types import ModuleType

from dynrcnn_ray.config.errors import DynrcnnError, innermost_line
from dynrcnn_ray.config.sections import ModelConfig

PARTS = ("build_model", "ROI_HEADS", "DYNAMIC_STATE")
"""What such a file may define, one of them at least: a function, and subclasses of the package's classes."""

_has_run: dict[str, Path] = {}
"""The files that this process has run, by their fingerprints: one at most where a model is built."""
_modules: dict[str, ModuleType] = {}
"""What those of them are that have run to their end."""


class ModuleError(DynrcnnError, ValueError):
    """A Python file that cannot be used. Its text is one line: the file, what it lacks."""

    would_repeat = True


def load_module(path: str, what: str) -> ModuleType:
    """Run a Python file by its path, once in a process.

    Args:
        path: the file.
        what: which field or flag names it, for errors.

    Raises:
        ModuleError: it is not there, or ends with an error.
    """
    file = _file_of(path, what)
    if file.suffix != ".py":
        raise ModuleError(f"{what}: {path!r} is no Python file; its name must end in .py")
    return _run(file, file.read_bytes(), what)


def identify_module(config: ModelConfig) -> str:
    """The fingerprint of the content of the model's own module; empty if it has none.

    Raises:
        ModuleError: the file is not there.
    """
    return _fingerprint_of(_file_of(config.module, "model.module").read_bytes()) if config.module else ""


def own_module(config: ModelConfig, fingerprint: str) -> ModuleType | None:
    """The configuration's own module, which has one of `PARTS` at least; None if it has no module.

    Args:
        config: the model.
        fingerprint: that of the module, as the trial began with it.

    Raises:
        ModuleError: the module has none of them, or is not that of the fingerprint; or this process has run another.
    """
    others = [file for known, file in _has_run.items() if known != fingerprint]
    if others:
        raise ModuleError(
            f"model.module: {config.module!r} is not built in a process that has run {others[0]}, which may have "
            "changed anything there; give each a process of its own"
        )
    return _own_module(config.module, fingerprint) if config.module else None


def has_parts(module: ModuleType) -> bool:
    """Whether a module defines something that takes the place of the package's."""
    return any(hasattr(module, name) for name in PARTS)


def _own_module(path: str, fingerprint: str) -> ModuleType:
    """A module, if that is the very file that was meant."""
    file = _file_of(path, "model.module")
    # Read once: what is run is what was compared.
    content = file.read_bytes()
    found = _fingerprint_of(content)
    if not fingerprint:
        raise ModuleError(
            f"model.module: {path!r} stands without a fingerprint, which tells whether it is the file that "
            "was meant, and is not run; train the trial again"
        )
    if fingerprint != found:
        raise ModuleError(
            f"model.module: {path!r} has the fingerprint {found} on this machine, but the trial began with "
            f"{fingerprint}; bring the same file to every node"
        )
    module = _run(file, content, "model.module")
    if not has_parts(module):
        raise ModuleError(
            f"model.module: {path!r} has no function build_model(config, num_classes, dynamic), and neither ROI_HEADS "
            "nor DYNAMIC_STATE"
        )
    if not callable(getattr(module, "build_model", has_parts)):
        raise ModuleError(f"model.module: {path!r}: build_model is no function (config, num_classes, dynamic)")
    return module


def _run(file: Path, content: bytes, what: str) -> ModuleType:
    fingerprint = _fingerprint_of(content)
    if fingerprint in _modules:
        return _modules[fingerprint]
    module = ModuleType(f"dynrcnn_ray_user_{file.stem}")
    module.__file__ = str(file)
    # Dataclasses look their module up here.
    sys.modules[module.__name__] = module
    _has_run[fingerprint] = file
    try:
        # Not by Python's own cache of compiled files, which knows a file by its time and size.
        exec(compile(content, str(file), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:  # Whatever the file does.
        raise ModuleError(f"{what}: {str(file)!r} ends with {innermost_line(error)}") from error
    _modules[fingerprint] = module
    return module


def _file_of(path: str, what: str) -> Path:
    file = Path(path).expanduser().absolute()
    if not file.is_file():
        raise ModuleError(f"{what}: {path!r} is no file")
    return file


def _fingerprint_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
