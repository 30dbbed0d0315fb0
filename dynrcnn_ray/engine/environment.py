"""What a trial ran on: package versions and hardware, for its row in the store."""

import os
import platform
from importlib.metadata import version

import torch

_PACKAGES = ("torch", "torchvision", "ray", "numpy", "pycocotools", "dynrcnn-ray")


def package_versions() -> dict[str, str]:
    """Versions of the packages that a result depends on."""
    return {name: version(name) for name in _PACKAGES}


def describe_hardware(device: torch.device) -> str:
    """One line: the GPU, or the CPU with its cores and this process's threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads a worker"
