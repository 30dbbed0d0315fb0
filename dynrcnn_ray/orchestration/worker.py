"""One worker of a trial: the engine's trial, with checkpoints in the storage and reports to Ray around it."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray import tune

from dynrcnn_ray.config import TrialConfig
from dynrcnn_ray.config_yaml import from_yaml
from dynrcnn_ray.engine.collectives import Worker
from dynrcnn_ray.engine.environment import describe_hardware, package_versions, require_gpu
from dynrcnn_ray.engine.telemetry import DynamicsRow
from dynrcnn_ray.engine.training import CheckpointError, TrainingDivergedError, TrainingState
from dynrcnn_ray.engine.trial import run_trial
from dynrcnn_ray.orchestration.checkpoints import CheckpointFolder
from dynrcnn_ray.results.files import StoreFiles

Report = Callable[[dict[str, Any]], None]


def train_worker(payload: dict[str, str]) -> dict[str, Any]:
    """Run the trial `payload["config"]` (YAML) as this Ray Train worker, from its newest checkpoint in the storage.

    Returns:
        The outcome as plain values, with what it ran on; or `failure`, the reason of a failure that another attempt
        would only repeat. Ray hands on the first worker's.

    Raises:
        DeviceError: the worker has no GPU that it can use.
    """
    config = from_yaml(payload["config"])
    worker, report = this_worker(config)
    checkpoints = CheckpointFolder(StoreFiles.open(payload["storage"]), config.training_id)

    def report_row(row: DynamicsRow) -> None:
        report(dict(row))

    def report_note(note: str) -> None:
        report({"note": note})

    try:
        outcome = run_trial(
            config,
            worker,
            checkpoint=checkpoints.newest(worker.device, on_damaged=report_note),
            on_row=report_row,
            on_checkpoint=_checkpoint_writer(config, checkpoints, worker),
            on_note=report_note,
        )
    except TrainingDivergedError as error:
        return {"failure": f"{type(error).__name__}: {error}"}
    except CheckpointError as error:
        return {"failure": f"{type(error).__name__}: {checkpoints.described}: {error}"}
    return {
        **asdict(outcome),
        "packages": package_versions(worker.device),
        "hardware": describe_hardware(worker.device),
    }


def this_worker(config: TrialConfig) -> tuple[Worker, Report]:
    """Which of a trial's workers this process is, and where its reports go.

    Raises:
        DeviceError: the trial asks for a GPU, and there is none that can be used.
    """
    if config.run.gpu:
        require_gpu()
    torch.set_num_threads(config.run.threads_per_worker)
    # From torch, as Ray Train's context may not be asked in a driver's process, which is Tune's.
    worker = Worker.of_this_process(ray.train.torch.get_device())
    # For the same reason reports go to Tune itself there.
    return worker, tune.report if config.run.is_local else ray.train.report


def _checkpoint_writer(
    config: TrialConfig, checkpoints: CheckpointFolder, worker: Worker
) -> Callable[[TrainingState, bool], None]:
    """The first worker writes; all take part, as each holds a part of the state."""

    def write(state: TrainingState, is_best: bool) -> None:
        contents = state.state_dict()
        if worker.is_first:
            checkpoints.save(contents, state.step, is_best=is_best, keep=config.run.keep_checkpoints)

    return write
