"""What a process sets for the device that it trains on. On a CPU each setting of a GPU stays as it was."""

import os

import torch

from dynrcnn_ray.models.detector import Detector
from dynrcnn_ray.training.allocator import keep_freed_memory

_ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


def prepare_device(device: torch.device, *, share: float = 1.0, deterministic: bool = False) -> None:
    """Set up this process, before it puts anything on the device.

    Args:
        device: where it will train or detect.
        share: the part of the GPU that it may use.
        deterministic: give the same bits each time on a GPU too. On a CPU it is always so.
    """
    if device.type != "cuda":
        keep_freed_memory()
        return
    # TF32 for the fully connected layers, most of the box head's time in float32; convolutions have it by default. It
    # rounds the factors to ten bits and adds up in float32. Boxes, IoU and the losses multiply no matrices.
    torch.set_float32_matmul_precision("high")
    # Images of a hundred sizes leave holes of a hundred sizes; segments that grow can be filled. Read once, at the
    # first allocation. What the user has set stays.
    if not any(name in os.environ for name in _ALLOCATOR_VARIABLES):
        os.environ[_ALLOCATOR_VARIABLES[0]] = "expandable_segments:True"
    # A process may train one trial after the other, so it is switched off as well.
    torch.use_deterministic_algorithms(deterministic)
    if deterministic:
        # By default PyTorch then also fills every new tensor; ours are written before they are read.
        torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
        # cuBLAS adds in one order if it has one workspace for each stream.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if share < 1:
        # A trial that wants more ends by itself, and not the one beside it.
        torch.cuda.set_per_process_memory_fraction(share, device)


def on_device(model: Detector, device: torch.device) -> Detector:
    """Move a model to the device, in the layout that is fast there."""
    if device.type != "cuda":
        return model.to(device)
    # cuDNN's convolutions on tensor cores want the channels last; otherwise each transposes its input and output.
    model.to(device)
    return model.to(memory_format=torch.channels_last)
