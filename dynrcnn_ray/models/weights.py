"""Pretrained weights of a backbone: which they are, and reading them."""

import dataclasses
import hashlib
import pickle
from pathlib import Path

import torch
from torch import Tensor

from dynrcnn_ray.config import ModelConfig


class WeightsError(ValueError):
    """Pretrained weights that cannot be had. Its text is one line: the field, the value, the remedy."""


def read_backbone_weights(config: ModelConfig) -> dict[str, Tensor]:
    """The backbone's pretrained weights, without the classifier; none if the configuration asks for none.

    `imagenet` is torchvision's file, downloaded once to each machine's cache of PyTorch.

    Raises:
        WeightsError: the weights do not exist, or cannot be downloaded or read.
    """
    if config.weights == "none":
        return {}
    if config.weights == "imagenet":
        state = _imagenet_weights(config.backbone)
    elif Path(config.weights).is_file():
        try:
            state = torch.load(config.weights, map_location="cpu", weights_only=True)
        except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
            raise WeightsError(f"model.weights: {config.weights!r} is no file of weights: {short(error)}") from None
    else:
        raise WeightsError(f"model.weights: {config.weights!r} is no file; allowed: none, imagenet or a file's path")
    return {name: value for name, value in state.items() if not name.startswith("fc.")}


def identify_weights(config: ModelConfig) -> ModelConfig:
    """The same configuration with a file's absolute path and the fingerprint of its content.

    Raises:
        WeightsError: the file is not there.
    """
    if config.weights in ("none", "imagenet"):
        return config
    file = Path(config.weights).expanduser().absolute()
    if not file.is_file():
        raise WeightsError(f"model.weights: {config.weights!r} is no file; allowed: none, imagenet or a file's path")
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return dataclasses.replace(config, weights=str(file), weights_fingerprint=digest[:16])


def short(error: Exception) -> str:
    """An error's text in one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]


def _imagenet_weights(backbone: str) -> dict[str, Tensor]:
    # Imported late: it takes seconds, and a command without pretrained weights has no need of it.
    from torchvision import models

    weights = models.get_model_weights(backbone)["IMAGENET1K_V1"]
    try:
        return weights.get_state_dict(progress=False)
    except OSError as error:
        name = weights.url.rpartition("/")[2]
        raise WeightsError(
            f"model.weights: 'imagenet' cannot be downloaded ({short(error)}); place torchvision's file {name} in "
            f"{torch.hub.get_dir()}/checkpoints on every node, or give a path"
        ) from None
