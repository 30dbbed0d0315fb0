"""What is said of a GPU. This machine may have none, so the driver's answers are given."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dynrcnn_ray.training import environment
from dynrcnn_ray.training.environment import DeviceError, driver_release, package_versions, require_gpu

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_a_row_of_a_gpu_names_cuda_cudnn_nccl_and_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "version"
    monkeypatch.setattr(environment, "_DRIVER_FILE", file)
    of_gpu = {"CUDA", "cuDNN", "NVIDIA driver"}
    assert not of_gpu & package_versions(CPU).keys()
    assert package_versions(CUDA)["NVIDIA driver"] == "unknown"
    file.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023\nGCC")
    versions = package_versions(CUDA)
    assert versions["NVIDIA driver"] == "535.129.03"
    assert versions["CUDA"] == str(torch.version.cuda or "unknown")
    assert of_gpu <= versions.keys()
    assert all(type(value) is str for value in versions.values())


@pytest.mark.parametrize(
    "line",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 07:17:46 UTC 2025",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22)",
    ],
)
def test_both_kernel_modules_tell_their_release(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "version").write_text(line)
    monkeypatch.setattr(environment, "_DRIVER_FILE", tmp_path / "version")
    assert driver_release() == "580.65.06"


@pytest.mark.parametrize(
    ("built", "supported", "said"),
    [
        (None, (13, 0), "is built without CUDA"),
        ("13.0", None, "no NVIDIA driver answers here"),
        ("13.0", (12, 4), "supports CUDA 12.4, but torch"),
        ("13.0", (13, 0), "no GPU is visible here"),
        ("12.8", (12, 4), "no GPU is visible here"),
    ],
)
def test_a_gpu_that_cannot_be_used_has_its_reason_in_one_line(
    built: str | None, supported: tuple[int, int] | None, said: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(environment, "driver_cuda_version", lambda: supported)
    with pytest.raises(DeviceError) as refused:
        require_gpu()
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_the_drivers_version_comes_from_the_driver(tmp_path: Path):
    """A library of that name which answers as a driver of CUDA 12.4 does."""
    source = "int cuDriverGetVersion(int *version) { *version = 12040; return 0; }"
    library = tmp_path / "libcuda.so.1"
    built = subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", library, "-x", "c", "-"], input=source, text=True, check=False
    )
    if built.returncode:
        pytest.skip("no C compiler here")
    code = "from dynrcnn_ray.training.environment import driver_cuda_version; print(driver_cuda_version())"
    asked = subprocess.run(
        [sys.executable, "-c", code],
        env={"LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout == "(12, 4)\n"
