"""The settings of a GPU are switched by the device. `tests/gpu` runs them on one; here it is asked what is set."""

import os
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from dynrcnn_ray.training import device
from dynrcnn_ray.training.device import on_device, prepare_device

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    precision = torch.get_float32_matmul_precision()
    for name in ALLOCATOR:
        monkeypatch.setenv(name, "")  # Restored, whatever is set in a test.
        monkeypatch.delenv(name)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    yield
    torch.set_float32_matmul_precision(precision)
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True


def test_a_cpu_keeps_its_precision_and_its_layout(monkeypatch: pytest.MonkeyPatch):
    kept: list[bool] = []
    monkeypatch.setattr(device, "keep_freed_memory", lambda: kept.append(True))
    prepare_device(CPU)
    assert kept == [True]
    assert torch.get_float32_matmul_precision() == "highest"
    assert not set(ALLOCATOR) & os.environ.keys()
    weight = on_device(nn.Conv2d(3, 4, 3), CPU).weight  # pyright: ignore[reportArgumentType]
    assert weight.is_contiguous()
    assert not weight.is_contiguous(memory_format=torch.channels_last)


def test_a_gpu_gets_tf32_and_segments_that_grow_and_no_setting_of_a_cpu(monkeypatch: pytest.MonkeyPatch):
    kept: list[bool] = []
    monkeypatch.setattr(device, "keep_freed_memory", lambda: kept.append(True))
    prepare_device(CUDA)
    assert kept == []
    assert torch.get_float32_matmul_precision() == "high"
    assert os.environ["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"


def test_a_deterministic_trial_leaves_no_setting_to_the_next_one():
    prepare_device(CUDA, deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    prepare_device(CUDA)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("name", ALLOCATOR)
def test_what_the_user_says_of_the_allocator_stays(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(name, "max_split_size_mb:128")
    prepare_device(CUDA)
    assert [os.environ.get(each) for each in ALLOCATOR if each in os.environ] == ["max_split_size_mb:128"]


def test_a_share_of_a_gpu_bounds_the_memory_of_the_process(monkeypatch: pytest.MonkeyPatch):
    bounds: list[tuple] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *given: bounds.append(given))
    prepare_device(CUDA)
    prepare_device(CUDA, share=0.25)
    assert bounds == [(0.25, CUDA)]


def test_a_model_on_a_gpu_has_its_channels_last(monkeypatch: pytest.MonkeyPatch):
    moved: list[tuple] = []
    monkeypatch.setattr(nn.Module, "to", lambda self, *where, **named: moved.append((where, named)) or self)
    on_device(nn.Conv2d(3, 4, 3), CUDA)  # pyright: ignore[reportArgumentType]
    assert moved == [((CUDA,), {}), ((), {"memory_format": torch.channels_last})]
