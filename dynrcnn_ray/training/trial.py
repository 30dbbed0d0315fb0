"""One trial on one worker, from its data to its metrics: train, then evaluate."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.data.examples import example_images
from dynrcnn_ray.data.layout import annotation_path
from dynrcnn_ray.data.prepare import prepare_data
from dynrcnn_ray.models.detector_weights import DetectorWeights, take_weights
from dynrcnn_ray.training.collectives import Worker, differences_of_workers
from dynrcnn_ray.training.inference import detect_all, detection_columns, metrics_of
from dynrcnn_ray.training.loop import CheckpointError, TrainingState, build_training_state, train
from dynrcnn_ray.training.snapshots import joined_columns, statistics_columns
from dynrcnn_ray.training.telemetry import DynamicsRow


@dataclass(frozen=True)
class TrialOutcome:
    """What a finished trial has to say.

    Attributes:
        metrics: COCO average precision in percent by name; None without ground truth of that size.
        history: one row every `log_every` steps.
        train_seconds: wall time of all steps, also of those done before a resume.
        eval_seconds: wall time of the evaluation.
        training_began_at: when the first step began, in seconds since the epoch.
        proposals: recorded proposals, a column for each field of `schemas.PROPOSALS` but `trial_id`.
        statistics: recorded I_k and E_k, a column for each field of `schemas.STATISTICS` but `trial_id`; nothing
            without `run.record_statistics`.
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
    statistics: dict[str, np.ndarray]
    detections: dict[str, np.ndarray]
    example_images: list[dict[str, Any]]
    kept_iou_updates: int | None
    kept_beta_updates: int | None


def run_trial(
    config: TrialConfig,
    worker: Worker,
    *,
    checkpoint: dict[str, Any] | None = None,
    detector_weights: DetectorWeights | None = None,
    on_row: Callable[[DynamicsRow], None] = lambda row: None,
    on_checkpoint: Callable[[TrainingState, bool], None] = lambda state, is_best: None,
    on_note: Callable[[str], None] = lambda note: None,
    wants_checkpoint: Callable[[], bool] = lambda: False,
) -> TrialOutcome:
    """Train a trial to its end and evaluate it.

    Args:
        config: the trial.
        worker: this process.
        checkpoint: training state to go on from.
        detector_weights: a trained detector to start from, where there is no checkpoint.
        on_row: called by every worker with each row of the dynamics.
        on_checkpoint: called by every worker whenever a checkpoint is due, and told whether its AP is the best so far;
            that is known on the first worker, and where checkpoints are evaluated.
        on_note: called by every worker with what people should know of a resume, or of the weights it starts from.
        wants_checkpoint: asked by every worker at every row; all must get the same answer. The checkpoint is made at
            once, without an evaluation, unless it is that of the last step.

    Returns:
        The outcome; metrics, proposals, detections and images are on the first worker alone.

    Raises:
        CheckpointError: the checkpoint is not of this trial, or the workers do not start alike.
        TrainingDivergedError: a loss was not finite.
        DataError: the data cannot be used.
        WeightsError: the backbone's weights cannot be had, or the detector's do not fit.
    """
    data = config.data
    if not (data.fingerprint and annotation_path(data.root, data.train_split).is_file()):
        # On another node than the one that prepared them, generated images may be missing.
        data = prepare_data(data, include_masks=config.model.has_masks)
    train_split = CocoDataset(data.root, data.train_split, include_masks=config.model.has_masks)
    val_split = CocoDataset(data.root, data.val_split)
    state = build_training_state(config, len(train_split.class_names), worker)
    if checkpoint is not None:
        state.load_state_dict(checkpoint)
        on_note(_resume_note(state, checkpoint["world_size"]))
    elif detector_weights is not None:
        on_note(take_weights(state.model, detector_weights, train_split.class_names))
    _require_same_start(state, data.fingerprint, len(train_split))
    is_urgent = False

    def handle_checkpoint(state: TrainingState) -> None:
        nonlocal is_urgent
        evaluates = config.run.evaluate_checkpoints and (not is_urgent or state.step == config.total_steps)
        is_urgent = False
        state.checkpoint_average_precision = None
        on_checkpoint(state, evaluates and _evaluate_checkpoint(config, state, val_split))

    def wants_urgently() -> bool:
        # Whoever wants one has no time for an evaluation: a node may be about to go.
        nonlocal is_urgent
        is_urgent = wants_checkpoint()
        return is_urgent

    began_at = time.time()
    train(
        config,
        state,
        train_split,
        on_row=on_row,
        on_checkpoint=handle_checkpoint,
        wants_checkpoint=wants_urgently,
    )
    trained = time.perf_counter()
    detections = detect_all(config, state.model, val_split, worker)
    metrics = metrics_of(config, val_split, detections) if worker.is_first else {}
    return TrialOutcome(
        metrics=metrics,
        history=state.history,
        train_seconds=state.train_seconds,
        eval_seconds=time.perf_counter() - trained,
        training_began_at=began_at,
        proposals=joined_columns(state.snapshots),
        statistics=statistics_columns(state.dynamic),
        detections=detection_columns(detections) if worker.is_first else {},
        example_images=example_images(val_split) if worker.is_first else [],
        kept_iou_updates=int(state.dynamic.kept_iou_updates) if not config.model.is_one_stage else None,
        kept_beta_updates=int(state.dynamic.kept_beta_updates) if not config.model.is_one_stage else None,
    )


def _require_same_start(state: TrainingState, fingerprint: str, images: int) -> None:
    """Refuse workers that would train different weights without a word.

    Raises:
        CheckpointError: they stand at different steps or have different data.
    """
    starts = differences_of_workers(f"step {state.step} with {images} images of data {fingerprint}", state.worker)
    if starts:
        listed = "; ".join(f"worker {rank} at {start}" for rank, start in starts.items())
        raise CheckpointError(f"the workers do not start alike: {listed}; give every node the same data and storage")


def _resume_note(state: TrainingState, workers_before: int) -> str:
    workers = state.worker.world_size
    note = f"goes on from the checkpoint of step {state.step}"
    if workers != workers_before:
        note += (
            f" with {workers} workers instead of {workers_before}: the same global batch and the same rule for T_now "
            "and beta_now, but no longer equal bit for bit"
        )
    return note


def _evaluate_checkpoint(config: TrialConfig, state: TrainingState, val_split: CocoDataset) -> bool:
    """Evaluate in the middle of training; whether the AP is the best so far, on the first worker."""
    detections = detect_all(config, state.model, val_split, state.worker)
    state.model.train()
    state.checkpoint_average_precision = 0.0
    if not state.worker.is_first:
        return False
    average_precision = metrics_of(config, val_split, detections)["AP"] or 0.0
    if state.history and state.history[-1]["step"] == state.step:
        state.history[-1]["AP"] = average_precision
    state.checkpoint_average_precision = average_precision
    is_best = average_precision > state.best_average_precision
    state.best_average_precision = max(average_precision, state.best_average_precision)
    return is_best
