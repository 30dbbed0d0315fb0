"""Whole trials of scale smoke on GPUs: every precision, a resume, two NCCL ranks, and the settings of a GPU."""

import math
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.execution.checkpoints import decode
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.environment import package_versions
from dynrcnn_ray.training.state import TrainingState, build_training_state
from tests.prepared import prepared
from tests.training.test_trial import change, without_clock
from tests.trial_events import run_to_end

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", ["faster_rcnn", "mask_rcnn"])
def test_every_precision_trains_and_resumes(
    name: str, precision: str, smoke: TrialConfig, cuda: torch.device, tmp_path: Path
):
    config = change(
        smoke, model={"name": name}, train={"precision": precision}, run={"gpu": 1, "record_statistics": True}
    )

    def save(state: TrainingState, _is_best: bool) -> None:
        torch.save(state.state_dict(), tmp_path / f"{state.step}.pt")

    whole = run_to_end(config, Worker(device=cuda), on_checkpoint=save)
    # As the workers of Ray Train read it.
    checkpoint = decode((tmp_path / "5.pt").read_bytes())
    resumed = run_to_end(config, Worker(device=cuda), checkpoint=checkpoint)
    for recorded in ("proposals", "statistics"):
        of_whole, of_resumed = (getattr(outcome, recorded) for outcome in (whole, resumed))
        assert set(of_resumed["step"].tolist()) == set(of_whole["step"].tolist())
    assert [row["step"] for row in resumed.history] == [row["step"] for row in whole.history] == [2, 4, 6, 8, 10]
    # What was before the checkpoint is the same; after it a GPU adds up in any order.
    assert without_clock(resumed.history[:2]) == without_clock(whole.history[:2])
    for row in (*whole.history, *resumed.history):
        assert math.isfinite(row["loss"])
        assert row["positives"] > 0
    assert resumed.history[-1]["loss"] == pytest.approx(whole.history[-1]["loss"], rel=0.2)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["faster_rcnn", "mask_rcnn", "cascade_rcnn", "retinanet"])
def test_a_deterministic_trial_that_was_killed_ends_with_the_same_bits(
    name: str, precision: str, smoke: TrialConfig, cuda: torch.device, tmp_path: Path
):
    is_fixed = name in ("cascade_rcnn", "retinanet")
    config = change(
        smoke,
        model={"name": name},
        train={"precision": precision},
        run={"gpu": 1, "deterministic": True},
        dynamic={"dla": not is_fixed, "dsl": not is_fixed},
    )
    ends: list[dict[str, torch.Tensor]] = []

    def save(state: TrainingState, _is_best: bool) -> None:
        torch.save(state.state_dict(), tmp_path / f"{state.step}.pt")
        if state.step == config.total_steps:
            ends.append({name: value.cpu() for name, value in state.model.state_dict().items()})

    whole = run_to_end(config, Worker(device=cuda), on_checkpoint=save)
    checkpoint = decode((tmp_path / "5.pt").read_bytes())
    resumed = run_to_end(config, Worker(device=cuda), on_checkpoint=save, checkpoint=checkpoint)
    # As text, in which a row that has no T_now equals itself.
    assert str(without_clock(resumed.history)) == str(without_clock(whole.history))
    assert resumed.metrics == whole.metrics
    first, second = ends
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def trial_of_a_rank(rank: int, config: TrialConfig, world_size: int, folder: str) -> None:
    torch.cuda.set_device(rank)
    rendezvous = f"file://{folder}/rendezvous"
    dist.init_process_group("nccl", init_method=rendezvous, rank=rank, world_size=world_size)
    outcome = run_to_end(config, Worker(rank, world_size, torch.device("cuda", rank)))
    torch.save({"history": without_clock(outcome.history), "metrics": outcome.metrics}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_ranks_that_talk_by_nccl_agree(smoke: TrialConfig, cuda: torch.device, tmp_path: Path):
    """Two where there are two cards, else one."""
    world_size = min(2, torch.cuda.device_count())
    mp.spawn(trial_of_a_rank, args=(change(smoke, run={"gpu": 1}), world_size, str(tmp_path)), nprocs=world_size)
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(world_size)]
    assert results[0]["metrics"]["AP"] is not None
    for result in results:
        assert result["history"] == results[0]["history"]
        for row in result["history"]:
            assert set(row["shard_T_now"]) == {row["T_now"]}


def test_the_settings_of_a_gpu_are_in_force(smoke: TrialConfig, cuda: torch.device):
    state = build_training_state(prepared(change(smoke, run={"gpu": 1})), 3, Worker(device=cuda))
    assert torch.get_float32_matmul_precision() == "high"
    convolutions = [weight for weight in state.model.parameters() if weight.dim() == 4 and weight[0, 0].numel() > 1]
    assert convolutions
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in convolutions)


def expandable_segments(_rank: int, config: TrialConfig, folder: str) -> None:
    build_training_state(prepared(config), 3, Worker(device=torch.device("cuda", 0)))
    expandable = all(segment["is_expandable"] for segment in torch.cuda.memory_snapshot())
    Path(folder, "expandable").write_text(str(expandable))


def test_segments_grow_in_a_process_that_has_used_no_gpu_before(
    smoke: TrialConfig, cuda: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delitem(os.environ, name, raising=False)
    mp.spawn(expandable_segments, args=(change(smoke, run={"gpu": 1}), str(tmp_path)), nprocs=1)
    assert (tmp_path / "expandable").read_text() == "True"


def test_a_row_names_what_it_ran_on(cuda: torch.device):
    versions = package_versions(cuda)
    assert {"CUDA", "cuDNN", "NCCL", "NVIDIA driver"} <= versions.keys()
    assert "unknown" not in versions.values()
