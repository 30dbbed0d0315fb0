"""What several test files need: a smoke-sized trial on generated data.

PyTorch and what imports it stand within the fixtures. The process that hands out the tests reads this file too, before
it starts the others, and has no need of six seconds of imports.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.prepare import prepare_data
from dynrcnn_ray.models import user_module


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Models this small only lose by a second thread, most of all on a busy machine."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def _leaves_no_ray() -> Iterator[None]:
    """A Ray that a file leaves in this process would be the one of the files after it, which then fail in its place."""
    yield
    if "ray" in sys.modules and (ray := sys.modules["ray"]).is_initialized():
        ray.shutdown()
        pytest.fail("this file leaves its Ray to the files after it: start it within ray_cluster()")


@pytest.fixture(autouse=True)
def _has_run_no_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test stands for a process of its own, in which a user's module may be run."""
    monkeypatch.setattr(user_module, "_has_run", {})
    monkeypatch.setattr(user_module, "_modules", {})


@pytest.fixture
def _float64() -> Iterator[None]:
    """For two computations of the same: how far float32's roundings part them differs between processors.

    In float64 they part a billion times less than any fault would.
    """
    import torch

    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder of this test session: tests find no data that an earlier run left."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def smoke(cache_home: Path) -> TrialConfig:
    """The trial of scale smoke, its images generated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache_home))
        base = base_config("smoke")
        return dataclasses.replace(base, data=dataclasses.replace(base.data, root=prepare_data(base.data).root))


@pytest.fixture(scope="session")
def trained(smoke: TrialConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrialConfig]:
    """A store's folder, and the one trial of scale smoke that is trained in it and has its checkpoints evaluated."""
    from tests.trained_store import train_into

    folder = tmp_path_factory.mktemp("trained")
    config = dataclasses.replace(smoke, run=dataclasses.replace(smoke.run, evaluate_checkpoints=True))
    train_into(folder, config)
    return folder, config


@pytest.fixture
def reports_of_drivers(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What drivers report; they and their one worker are in this process, without Ray."""
    import ray.train.torch
    import ray.tune
    import torch

    from dynrcnn_ray.execution import driver
    from dynrcnn_ray.execution.preemption import WATCHER
    from dynrcnn_ray.tools.evaluate import evaluation

    reports: list[dict[str, Any]] = []

    def run_one(drive: Callable[[Any], None], job: Any) -> dict:
        drive(job)
        return reports[-1]

    monkeypatch.setattr(evaluation, "run_one", run_one)
    for module in (driver, evaluation):
        monkeypatch.setattr(module, "fit", lambda config, work, payload: work(payload))
    for module in (ray.tune, ray.train):
        monkeypatch.setattr(module, "report", reports.append)
    # Otherwise Ray is asked for the nodes that go, and starts for it.
    monkeypatch.setenv(WATCHER, "0")
    # Ray Train tells a process its device in a training alone.
    monkeypatch.setattr(ray.train.torch, "get_device", lambda: torch.device("cpu"))
    return reports
