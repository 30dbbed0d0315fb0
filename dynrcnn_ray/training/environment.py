"""What a trial runs on: package versions and hardware for its row in the store, and whether there is a usable GPU."""

import contextlib
import ctypes
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

import torch
from torch.cuda import nccl

from dynrcnn_ray.config.errors import DynrcnnError

_PACKAGES = ("torch", "torchvision", "ray", "numpy", "pycocotools", "dynrcnn-ray")
_DRIVER_FILE = Path("/proc/driver/nvidia/version")


class DeviceError(DynrcnnError, ValueError):
    """A device that cannot be used. Its text is one line: why, and what to do."""

    would_repeat = False  # The next attempt may come to another node.


def package_versions(device: torch.device | None = None) -> dict[str, str]:
    """Versions of the packages that a result depends on; on a GPU also of CUDA, cuDNN, NCCL and the driver."""
    versions = {name: version(name) for name in _PACKAGES}
    return versions | _cuda_versions() if device and device.type == "cuda" else versions


def _cuda_versions() -> dict[str, str]:
    versions = {"CUDA": torch.version.cuda, "cuDNN": torch.backends.cudnn.version(), "NVIDIA driver": driver_release()}
    with contextlib.suppress(AttributeError):  # A build without NCCL.
        versions["NCCL"] = ".".join(map(str, nccl.version()))
    return {name: str(value or "unknown") for name, value in versions.items()}


def driver_release() -> str | None:
    """The NVIDIA driver's release, such as 580.65.06; None if its kernel module is not loaded (Linux)."""
    try:
        described = _DRIVER_FILE.read_text()
    except OSError:
        return None
    found = re.search(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)", described)
    return found[1] if found else None


def describe_hardware(device: torch.device) -> str:
    """One line: the GPU, or the CPU with its cores and this process's threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads a worker"


def require_gpu() -> None:
    """Refuse to go on where this process cannot compute on a GPU.

    Raises:
        DeviceError: saying why: a torch without CUDA, no driver, one that is too old, or no visible GPU.
    """
    if torch.cuda.is_available():
        return
    built = torch.version.cuda
    if built is None:
        raise DeviceError(f"no usable GPU: torch {torch.__version__} is built without CUDA; install torch's CUDA build")
    supported = driver_cuda_version()
    if supported is None:
        raise DeviceError("no usable GPU: no NVIDIA driver answers here; install one, or choose the CPU (--run.gpu 0)")
    # Within a major version, newer CUDA runs on older drivers.
    if supported[0] < int(built.split(".")[0]):
        raise DeviceError(
            f"no usable GPU: the NVIDIA driver {driver_release() or ''} supports CUDA {supported[0]}.{supported[1]}, "
            f"but torch {torch.__version__} is built for CUDA {built}; update the driver, or install the torch that is "
            f"built for CUDA {supported[0]} (see docs/gpu.md)"
        )
    raise DeviceError(
        f"no usable GPU: no GPU is visible here (CUDA_VISIBLE_DEVICES is {os.environ.get('CUDA_VISIBLE_DEVICES')!r}); "
        "look at nvidia-smi"
    )


def driver_cuda_version() -> tuple[int, int] | None:
    """Major and minor of the newest CUDA that the driver knows; None without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    number = ctypes.c_int(0)
    # It answers even where the driver is too old to be initialised by torch.
    if driver.cuDriverGetVersion(ctypes.byref(number)) or not number.value:
        return None
    return number.value // 1000, number.value % 1000 // 10
