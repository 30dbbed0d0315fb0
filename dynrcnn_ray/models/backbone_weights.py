"""Pretrained weights of a backbone: reading and writing them."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynrcnn_ray.config.errors import one_line
from dynrcnn_ray.config.sections import ModelConfig
from dynrcnn_ray.models.state_dicts import StateDict, UnreadableWeightsError, find_state_dict, read_content
from dynrcnn_ray.models.weights import (
    WeightsError,
    file_of_weights,
    fingerprint_of_file,
)
from dynrcnn_ray.options.output import write_whole

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


def read_backbone_weights(config: ModelConfig) -> StateDict:
    """The backbone's pretrained weights, without the classifier; none if the configuration asks for none.

    A detector that training starts from brings its backbone along: see `detector_weights`.

    `imagenet` is torchvision's file, downloaded once to each machine's cache of PyTorch.

    Raises:
        WeightsError: the weights do not exist, or cannot be downloaded or read.
    """
    if config.weights == "none" or config.detector_weights:
        return StateDict({}, "")
    if config.weights == "imagenet":
        state, entry = _imagenet_weights(config.backbone), ""
    else:
        file = file_of_weights(config)
        try:
            state, entry = find_state_dict(read_content(file))
        except UnreadableWeightsError as error:
            raise WeightsError(f"model.weights: {str(file)!r} {error}") from None
    return StateDict({name: value for name, value in state.items() if not name.startswith("fc.")}, entry)


def write_backbone_weights(file: Path, arrays: dict[str, NDArray[Any]]) -> str:
    """Write weights as a compressed .npz that is read without unpickling.

    Returns:
        The fingerprint of the file.
    """
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    write_whole(file, stream.getvalue())
    return fingerprint_of_file(file)


def _imagenet_weights(backbone: str) -> dict[str, Tensor]:
    # Imported late: it takes seconds, and a grid's own process reads other weights without it.
    from torchvision import models

    return downloaded(models.get_model_weights(backbone)["IMAGENET1K_V1"], "model.weights: 'imagenet'")


def downloaded(weights: "WeightsEnum", named: str) -> dict[str, Tensor]:
    """Torchvision's file of weights, downloaded once to each machine's cache of PyTorch.

    Args:
        weights: which.
        named: the field and its value, for errors.

    Raises:
        WeightsError: it cannot be downloaded, or the file in the cache is damaged.
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    # The name says how the SHA-256 of the content begins. PyTorch asks for it at most while it downloads.
    if file.is_file() and not fingerprint_of_file(file).startswith(file.stem.rpartition("-")[2]):
        raise WeightsError(f"{named}: {file} is damaged or another file; move it away, to have it downloaded again")
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "invalid hash" not in str(error):
            raise
        raise WeightsError(
            f"{named} cannot be downloaded ({one_line(error, 200)}); place torchvision's file {file.name} in "
            f"{file.parent} on every node, or give a path"
        ) from None
