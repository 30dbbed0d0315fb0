"""Pretrained weights of a backbone, and which detector's weights a trial starts from: which they are.

Reads no tensors: a plan needs no more than the identity.
"""

import dataclasses
import functools
import hashlib
import re
from pathlib import Path

from dynrcnn_ray.config.errors import DynrcnnError
from dynrcnn_ray.config.sections import CheckpointName, ModelConfig

PACKAGED = Path(__file__).parent / "pretrained"
"""Folder of the weights `shapes`: an .npz file a backbone, and `made_by.json` on how they were made."""

_CHECKPOINT = re.compile("best|[1-9][0-9]*")
_TRIAL = re.compile(r"([0-9a-f]{12})(?::(best|[1-9][0-9]*))?")


class WeightsError(DynrcnnError, ValueError):
    """Pretrained weights that cannot be had. Its text is one line: the field, the value, the remedy."""

    would_repeat = True


def require_fingerprint(field: str, value: str, found: str, began_with: str) -> None:
    """Refuse weights that are not those with which a trial began.

    Args:
        field: of `ModelConfig`.
        value: what stands there.
        found: the fingerprint on this machine.
        began_with: that of the trial; empty before it is known.

    Raises:
        WeightsError: they differ.
    """
    if began_with not in ("", found):
        raise WeightsError(
            f"model.{field}: {value!r} has the fingerprint {found} on this machine, but the trial began "
            f"with {began_with}; bring the same file to every node"
        )


def identify_weights(config: ModelConfig) -> str:
    """The fingerprint of the backbone's weights; empty for none, ImageNet's, or where a detector brings them along.

    Raises:
        WeightsError: the file is not there.
    """
    if config.weights in ("none", "imagenet") or config.detector_weights:
        return ""
    return fingerprint_of_file(file_of_weights(config))


def require_weights(config: ModelConfig, fingerprint: str) -> None:
    """Refuse backbone weights that are not those with which a trial began.

    Args:
        config: the model.
        fingerprint: that of the trial; empty before it is known.

    Raises:
        WeightsError: they differ, or the file is not there.
    """
    if fingerprint:
        require_fingerprint("weights", config.weights, identify_weights(config), fingerprint)


def identify_detector_weights(config: ModelConfig) -> str:
    """The fingerprint of the content of the file of a detector to start from; empty if there is none.

    Raises:
        WeightsError: the file is not there.
    """
    if not _names_detector_file(config):
        return ""
    file = Path(config.detector_weights).expanduser().absolute()
    if not file.is_file():
        raise WeightsError(
            f"model.detector_weights: {config.detector_weights!r} is no file; allowed: coco, a file's path, or the id "
            "of a trial in the storage"
        )
    return fingerprint_of_file(file)


def with_absolute_paths(config: ModelConfig) -> ModelConfig:
    """The same wherever it is read: workers have another current folder than the command."""
    names = ["module"] if config.module else []
    names += ["weights"] if starts_from_file(config) else []
    names += ["detector_weights"] if _names_detector_file(config) else []
    return dataclasses.replace(config, **{name: _absolute(getattr(config, name)) for name in names})


def starts_from_file(config: ModelConfig) -> bool:
    """Whether the backbone starts from somebody's own file."""
    return config.weights not in ("none", "imagenet", "shapes") and not config.detector_weights


def trial_named(detector_weights: str) -> tuple[str, CheckpointName] | None:
    """The trial, and which of its checkpoints, that `model.detector_weights` names; None if it names something else."""
    found = _TRIAL.fullmatch(detector_weights)
    if not found or Path(detector_weights).is_file():
        return None
    which = found[2] or "last"
    return found[1], "best" if which == "best" else "last" if which == "last" else int(which)


def split_checkpoint(detector_weights: str) -> tuple[str, str]:
    """What names a trial in `model.detector_weights`, and what of its checkpoints stands behind it, with the colon."""
    name, _, which = detector_weights.rpartition(":")
    return (name, f":{which}") if _CHECKPOINT.fullmatch(which) and name not in ("", "best") else (detector_weights, "")


def _names_detector_file(config: ModelConfig) -> bool:
    return config.detector_weights not in ("", "coco") and trial_named(config.detector_weights) is None


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def file_of_weights(config: ModelConfig) -> Path:
    """The file of a backbone's weights.

    Raises:
        WeightsError: it is not there.
    """
    if config.weights == "shapes":
        file = PACKAGED / f"{config.backbone}.npz"
        remedy = "the package is not whole, install it again"
    else:
        file = Path(config.weights).expanduser().absolute()
        remedy = "allowed: none, imagenet, shapes or a file's path"
    if not file.is_file():
        raise WeightsError(f"model.weights: {config.weights!r} is no file; {remedy}")
    return file


def fingerprint_of_file(file: Path) -> str:
    """Hash of a file's content."""
    return _fingerprint_since(file, file.stat().st_ctime_ns)


@functools.cache
def _fingerprint_since(file: Path, changed_at: int) -> str:
    """Remembered until the file changes: every row of every table asks for it."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:16]
