"""What a trial asks for in GPUs, without a cluster."""

import pytest
import torch

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.sections import RunConfig
from dynrcnn_ray.config.stored import from_stored
from dynrcnn_ray.config.validation import ConfigError, validate
from dynrcnn_ray.execution import cluster
from dynrcnn_ray.execution import trials as grid
from dynrcnn_ray.execution.cluster import trials_at_once
from dynrcnn_ray.execution.driver import driver_resources
from dynrcnn_ray.execution.job import PlannedTrial
from dynrcnn_ray.execution.trials import run_trials
from dynrcnn_ray.training import environment
from dynrcnn_ray.training.environment import DeviceError
from tests.prepared import prepared
from tests.training.test_trial import change


@pytest.fixture(autouse=True)
def _one_node_with_two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    node = {"Alive": True, "Resources": {"CPU": 16.0, "GPU": 2.0, "node:__internal_head__": 1.0}}
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [node])


@pytest.mark.parametrize(("gpu", "trials"), [(1, 2), (0.5, 4), (0.25, 8), (0, 16)])
def test_small_trials_share_a_gpu(gpu: float, trials: int):
    run = RunConfig(gpu=gpu)
    assert trials_at_once(run) == trials
    assert driver_resources(run) == {"cpu": 1, "gpu": gpu}


def test_no_two_workers_of_a_trial_share_one():
    with pytest.raises(
        ConfigError, match=r"^run\.gpu: 0\.5 of a GPU is for trials of one worker, .*run.num_workers is 2; "
    ):
        validate(change(base_config("smoke"), run={"gpu": 0.5, "num_workers": 2}))


@pytest.mark.parametrize(("written", "meant"), [("true", 1), ("false", 0), ("0.5", 0.5)])
def test_configurations_of_old_rows_can_still_be_read(written: str, meant: float):
    assert from_stored(f"run: {{gpu: {written}}}").config.run.gpu == meant


def test_a_driver_that_is_too_old_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(environment, "driver_cuda_version", lambda: (12, 4))
    monkeypatch.setattr(grid, "ray_cluster", lambda: pytest.fail("Ray was started"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    trial = PlannedTrial(prepared(change(base_config("smoke"), run={"gpu": 1})), "train", "trial")
    with pytest.raises(
        DeviceError, match=r"^no usable GPU: the NVIDIA driver .* supports CUDA 12\.4, .* is built for CUDA 13\.0"
    ):
        run_trials([trial], storage="nowhere", git_commit="unknown")
