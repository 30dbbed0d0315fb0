"""Algorithm 1 on a GPU: the same values as on the CPU, and the host never waits for the device."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from dynrcnn_ray.dynamic.proposals import AssignedProposals
from dynrcnn_ray.dynamic.state import DynamicTrainingState
from tests.dynamic.cases import EVERY_CONVENTION, KINDS, assigned, fair_step, make_config
from tests.dynamic.oracle import WEIGHTS, Oracle

pytestmark = pytest.mark.gpu


@pytest.fixture
def no_host_syncs(cuda: torch.device) -> Iterator[None]:
    """Whatever makes the host wait for the device raises."""
    torch.cuda.synchronize()
    yield
    torch.cuda.set_sync_debug_mode("default")


def on(device: torch.device, image: AssignedProposals) -> AssignedProposals:
    match = image.match and type(image.match)(*(value.to(device) for value in image.match))
    moved = {name: getattr(image, name).to(device) for name in ("proposals", "gt_boxes", "sampled", "labels")}
    return replace(image, match=match, **moved)


@EVERY_CONVENTION
@pytest.mark.parametrize("counted", [True, False])
def test_the_statistics_are_those_of_the_cpu_without_a_host_sync(
    convention: str, counted: bool, cuda: torch.device, no_host_syncs: None
):
    config = make_config(convention=convention, count_ground_truths=counted, update_interval=2, initial_iou=0.2)
    rng, oracle = np.random.default_rng(0), Oracle(config)
    on_cpu, on_gpu = DynamicTrainingState(config), DynamicTrainingState(config, device=cuda)
    for _ in range(6):
        images = [assigned(image, on_cpu.iou_threshold) for image in fair_step(rng, KINDS, oracle)]
        moved = [on(cuda, image) for image in images]
        torch.cuda.set_sync_debug_mode("error")
        on_gpu.record(on_gpu.measure(moved, WEIGHTS))
        on_gpu.end_step()
        torch.cuda.set_sync_debug_mode("default")
        on_cpu.record(on_cpu.measure(images, WEIGHTS))
        on_cpu.end_step()
        for name in ("iou_now", "beta_now"):
            assert getattr(on_gpu, name).item() == pytest.approx(getattr(on_cpu, name).item(), rel=1e-5)


def test_the_check_sees_a_host_sync(cuda: torch.device, no_host_syncs: None):
    value = torch.ones((), device=cuda)
    torch.cuda.set_sync_debug_mode("error")
    with pytest.raises(RuntimeError, match="synchroniz"):
        value.item()
