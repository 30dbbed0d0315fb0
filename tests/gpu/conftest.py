"""Tests that need a GPU. Where there is none each is skipped, with the reason."""

import pytest
import torch

from dynrcnn_ray.training.environment import DeviceError, require_gpu


@pytest.fixture(scope="session", autouse=True)
def _gpu() -> None:
    try:
        require_gpu()
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.fixture
def cuda(_gpu: None) -> torch.device:
    return torch.device("cuda", 0)
