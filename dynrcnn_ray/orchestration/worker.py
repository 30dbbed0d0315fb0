"""One Ray Train worker: the engine's trial, with Ray's checkpoints and reports around it."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch

from dynrcnn_ray.config import from_yaml
from dynrcnn_ray.engine.collectives import Worker
from dynrcnn_ray.engine.environment import describe_hardware, package_versions
from dynrcnn_ray.engine.telemetry import DynamicsRow
from dynrcnn_ray.engine.training import TrainingState
from dynrcnn_ray.engine.trial import load_checkpoint, run_trial, save_checkpoint


def train_worker(payload: dict[str, str]) -> dict[str, Any]:
    """Run the trial `payload["config"]` (YAML) as this Ray Train worker.

    Returns:
        The outcome as plain values, with what it ran on. Ray hands on the first worker's.
    """
    config = from_yaml(payload["config"])
    torch.set_num_threads(config.run.cpus_per_worker)
    context = ray.train.get_context()
    worker = Worker(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())
    outcome = run_trial(
        config,
        worker,
        checkpoint=_latest_checkpoint(worker),
        on_row=_report_row,
        on_checkpoint=_checkpoint_reporter(worker),
    )
    return {
        **asdict(outcome),
        "packages": package_versions(),
        "hardware": describe_hardware(worker.device),
    }


def _latest_checkpoint(worker: Worker) -> dict[str, Any] | None:
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        return load_checkpoint(Path(folder), worker.device)


def _report_row(row: DynamicsRow) -> None:
    ray.train.report(dict(row))


def _checkpoint_reporter(worker: Worker) -> Callable[[TrainingState], None]:
    """Every worker reports, the first one with the checkpoint; its name makes a repeated step overwrite itself."""

    def report(state: TrainingState) -> None:
        contents = state.state_dict()
        metrics = {"checkpoint_step": state.step}
        if not worker.is_first:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            save_checkpoint(contents, Path(folder))
            ray.train.report(
                metrics,
                checkpoint=ray.train.Checkpoint.from_directory(folder),
                checkpoint_dir_name=f"step_{state.step:08d}",
            )

    return report
