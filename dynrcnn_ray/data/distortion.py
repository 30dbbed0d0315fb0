"""Photometric distortion of a training image: a function of its seed alone."""

import functools

import torch
from torch import Tensor
from torchvision.transforms import v2


def distort_colours(image: Tensor, seed: int) -> Tensor:
    """Change brightness, contrast, saturation and hue, and sometimes the order of the channels.

    Args:
        image: uint8 `[3, H, W]`.
        seed: Of what is drawn. PyTorch's own random numbers go on as if nothing had been drawn.

    Returns:
        An image of the same shape and type.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _distortion()(image)


@functools.cache
def _distortion() -> v2.RandomPhotometricDistort:
    return v2.RandomPhotometricDistort()
