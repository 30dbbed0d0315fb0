"""Weights as others save them: a file's content, the state_dict within it, and its names without a wrapper's prefix."""

import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from dynrcnn_ray.config.errors import DynrcnnError
from dynrcnn_ray.models.whole_archive import require_whole

_POINTER_OF_GIT_LFS = b"version https://git-lfs"
_ZIP, _PICKLE = b"PK", b"\x80"
_ENTRIES = ("model", "state_dict", "model_state_dict", "model_ema")
"""Under which a checkpoint's weights are known, the one that is taken first."""
_IN_BETWEEN = "_orig_mod."
"""What torch.compile puts into names, also within a model."""
_MOST_NAMES = 3


class UnreadableWeightsError(DynrcnnError):
    """A file that holds no weights. Its text says why and what helps, to follow the file's name."""

    would_repeat = True


class StateDict(NamedTuple):
    """A state_dict out of a file.

    Attributes:
        state: its tensors by name.
        entry: where in the file it was; empty where it is all of it.
    """

    state: dict[str, Tensor]
    entry: str


def read_content(file: Path) -> Any:
    """What a file of torch.save or an .npz holds. Objects other than tensors and plain values are left out unread.

    Raises:
        UnreadableWeightsError: it is no such file, is damaged or cannot be read.
    """
    begin = b""
    try:
        with file.open("rb") as opened:
            begin = opened.read(len(_POINTER_OF_GIT_LFS))
        if not begin:
            raise UnreadableWeightsError("is no file of weights: it is empty; bring it once more")
        if begin == _POINTER_OF_GIT_LFS:
            raise UnreadableWeightsError("is a pointer of Git LFS, not the file; fetch that with `git lfs pull`")
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        if begin.startswith(_ZIP):
            require_whole(file)
        return _load(file, is_zip=begin.startswith(_ZIP))
    except OSError as error:
        raise UnreadableWeightsError(f"cannot be read ({error.strerror or error})") from None
    except (UnreadableWeightsError, MemoryError):
        raise
    except zipfile.BadZipFile:
        raise UnreadableWeightsError("is no file of weights: damaged or cut; bring it once more") from None
    except Exception:  # Whatever somebody put into the file decides which.
        if file.suffix == ".npz":
            what = "damaged, or with more than arrays of numbers; bring it once more"
        elif begin.startswith((_ZIP, _PICKLE)):
            what = (
                "damaged or cut, or with objects that are not read; save the model's state_dict() alone, by torch.save"
            )
        else:
            what = "neither torch.save's nor an .npz; give one of these"
        raise UnreadableWeightsError(f"is no file of weights: {what}") from None


def find_state_dict(content: Any) -> StateDict:
    """The state_dict that a file's content is, or has as an entry.

    Raises:
        UnreadableWeightsError: it has none, or several.
    """
    if not isinstance(content, dict):
        raise UnreadableWeightsError("holds no state_dict; save one by torch.save(model.state_dict(), FILE)")
    entries = [str(name) for name, value in content.items() if isinstance(value, dict) and _tensors(value)]
    known = [name for name in _ENTRIES if name in entries]
    if not known and (own := _tensors(content)):
        return StateDict(own, "")
    if len(entries) > 1 and not known:
        raise UnreadableWeightsError(f"holds several state_dicts ({named(entries)}); save one of them alone")
    if not entries:
        raise UnreadableWeightsError("holds no state_dict; save one by torch.save(model.state_dict(), FILE)")
    entry = (known or entries)[0]
    return StateDict(_tensors(content[entry]), entry)


def without_wrapper(state: Mapping[str, Tensor], own_names: Collection[str]) -> tuple[dict[str, Tensor], str]:
    """A state_dict with the names of a model, where a wrapper has put something before all of them.

    Nothing is taken away from names that the model has, and nothing that not all names share.

    Args:
        state: the state_dict. Names without a dot, such as the count of torch's averaged model, are no layer's.
        own_names: the model's names.

    Returns:
        The state_dict, and what its names had before them.
    """
    named, prefix = dict(state), ""
    if not any(name in own_names for name in named) and any(_IN_BETWEEN in name for name in named):
        named, prefix = {name.replace(_IN_BETWEEN, ""): value for name, value in named.items()}, _IN_BETWEEN
    while not any(name in own_names for name in named):
        of_layers = {name: value for name, value in named.items() if "." in name}
        shared = {name.partition(".")[0] for name in of_layers}
        if len(shared) != 1:
            return dict(state), ""
        prefix += f"{shared.pop()}."
        named = {name.partition(".")[2]: value for name, value in of_layers.items()}
    return named, prefix


def named(names: Collection[str]) -> str:
    """Some names for a line, and how many more there are."""
    shown = ", ".join(list(names)[:_MOST_NAMES])
    return f"{shown} and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else shown


def _load(file: Path, *, is_zip: bool) -> Any:
    # What else a checkpoint holds, such as the arguments of the command that made it, is never made: an empty object
    # stands for it. PyTorch still refuses what is dangerous by its module.
    others = get_unsafe_globals_in_checkpoint(file) if is_zip else []
    with safe_globals([(_LeftOut, name) for name in others]):
        return torch.load(file, map_location="cpu", weights_only=True)


class _LeftOut:
    """Stands for an object that is not read."""

    def __new__(cls, *_arguments: Any, **_options: Any) -> "_LeftOut":
        return super().__new__(cls)

    def __init__(self, *_arguments: Any, **_options: Any) -> None: ...

    def __setstate__(self, _state: Any) -> None: ...


def _tensors(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
