"""Tries a module of somebody's own in a process of its own, whose end takes all that the module changes."""

import os
import subprocess
import sys

from dynrcnn_ray.config.sections import ModelConfig
from dynrcnn_ray.config.validation import parse_tree
from dynrcnn_ray.models.user_module import PARTS, ModuleError, own_module

_TRY = "import sys; from dynrcnn_ray.models.tried_module import try_here; sys.exit(try_here(*sys.argv[1:]))"
_REFUSED = 2


def require_module(config: ModelConfig, fingerprint: str) -> None:
    """Refuse a module that cannot be used.

    Args:
        config: the model.
        fingerprint: that of the module, as the trial begins with it.

    Raises:
        ModuleError: as from `user_module.own_module` and `own_parts.parts_of`, or it ends the process.
    """
    done = subprocess.run(
        [sys.executable, "-c", _TRY, config.module, fingerprint, config.name, *config.options],
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        # Ctrl-C in a terminal is the command's to tell.
        process_group=0,
    )
    last = done.stderr.rstrip().rpartition("\n")[2]
    if done.returncode == _REFUSED:
        raise ModuleError(last)
    if done.returncode:
        raise ModuleError(
            f"model.module: {config.module!r} ends its process with the code {done.returncode}{last and f' ({last})'}"
        )
    sys.stderr.write(done.stderr)


def try_here(path: str, fingerprint: str, model: str, *options: str) -> int:
    """Run a module in this process; the exit code, after a line on the standard error where it cannot be used."""
    config = parse_tree({"name": model, "module": path, "options": options}, ModelConfig)
    try:
        module = own_module(config, fingerprint)
        if options or not vars(module).keys().isdisjoint(PARTS[1:]):
            # Imported late: a file that has imported no PyTorch needs none to be tried.
            from dynrcnn_ray.models.own_parts import parts_of

            parts_of(module, config)
    except ModuleError as error:
        print(error, file=sys.stderr)
        return _REFUSED
    return 0
