"""One trial on one worker, from its data to its metrics: train, then evaluate."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dynrcnn_ray.config import TrialConfig
from dynrcnn_ray.data.coco import CocoDataset, annotation_path
from dynrcnn_ray.data.examples import example_images
from dynrcnn_ray.data.prepare import prepare_data
from dynrcnn_ray.engine.collectives import Worker
from dynrcnn_ray.engine.inference import detect_all, detection_columns, metrics_of
from dynrcnn_ray.engine.snapshots import joined_columns
from dynrcnn_ray.engine.telemetry import DynamicsRow
from dynrcnn_ray.engine.training import TrainingState, build_training_state, train

CHECKPOINT_FILE = "training_state.pt"


@dataclass(frozen=True)
class TrialOutcome:
    """What a finished trial has to say.

    Attributes:
        metrics: COCO average precision in percent by name; None without ground truth of that size.
        history: one row every `log_every` steps.
        train_seconds: wall time of the steps done by this process; a resumed run counts its own alone.
        eval_seconds: wall time of the evaluation.
        training_began_at: when the first step began, in seconds since the epoch.
        proposals: recorded proposals, a column for each field of `schemas.PROPOSALS` but `trial_id`.
        detections: on the validation split, a column for each field of `schemas.DETECTIONS` but `trial_id`.
        example_images: the first images of the validation split, rows of `schemas.IMAGES`.
        kept_iou_updates: updates of T_now that found nothing measured.
        kept_beta_updates: updates of beta_now that found nothing usable.
    """

    metrics: dict[str, float | None]
    history: list[DynamicsRow]
    train_seconds: float
    eval_seconds: float
    training_began_at: float
    proposals: dict[str, np.ndarray]
    detections: dict[str, np.ndarray]
    example_images: list[dict[str, Any]]
    kept_iou_updates: int | None
    kept_beta_updates: int | None


def run_trial(
    config: TrialConfig,
    worker: Worker,
    *,
    checkpoint: dict[str, Any] | None = None,
    on_row: Callable[[DynamicsRow], None] = lambda row: None,
    on_checkpoint: Callable[[TrainingState], None] = lambda state: None,
) -> TrialOutcome:
    """Train a trial to its end and evaluate it.

    Args:
        config: the trial.
        worker: this process.
        checkpoint: training state to go on from.
        on_row: called by every worker with each row of the dynamics.
        on_checkpoint: called by every worker whenever a checkpoint is due.

    Returns:
        The outcome; metrics, proposals, detections and images are on the first worker alone.
    """
    data = config.data
    if not (data.fingerprint and annotation_path(data.root, data.train_split).is_file()):
        # On another node than the one that prepared them, generated images may be missing.
        data = prepare_data(data)
    train_split = CocoDataset(data.root, data.train_split, include_masks=config.model.has_masks)
    val_split = CocoDataset(data.root, data.val_split)
    state = build_training_state(config, len(train_split.class_names), worker)
    if checkpoint is not None:
        state.load_state_dict(checkpoint)
    began_at, started = time.time(), time.perf_counter()
    train(config, state, train_split, on_row=on_row, on_checkpoint=on_checkpoint)
    trained = time.perf_counter()
    detections = detect_all(config, state.model, val_split, worker)
    metrics = metrics_of(config, val_split, detections) if worker.is_first else {}
    return TrialOutcome(
        metrics=metrics,
        history=state.history,
        train_seconds=trained - started,
        eval_seconds=time.perf_counter() - trained,
        training_began_at=began_at,
        proposals=joined_columns(state.snapshots),
        detections=detection_columns(detections) if worker.is_first else {},
        example_images=example_images(val_split) if worker.is_first else [],
        kept_iou_updates=int(state.dynamic.kept_iou_updates) if not config.model.is_one_stage else None,
        kept_beta_updates=int(state.dynamic.kept_beta_updates) if not config.model.is_one_stage else None,
    )


def save_checkpoint(state: dict[str, Any], folder: Path) -> None:
    """Write a training state into a folder."""
    torch.save(state, folder / CHECKPOINT_FILE)


def load_checkpoint(folder: Path, device: torch.device) -> dict[str, Any]:
    """Read a training state; nothing but tensors and plain values is accepted."""
    return torch.load(folder / CHECKPOINT_FILE, map_location=device, weights_only=True)
