"""One trial on one worker, from its data to its metrics: train, then evaluate."""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.data.examples import example_images
from dynrcnn_ray.data.layout import annotation_path
from dynrcnn_ray.data.prepare import prepare_data
from dynrcnn_ray.models.detector_weights import DetectorWeights, take_weights
from dynrcnn_ray.store.explosions import explosion_note
from dynrcnn_ray.training.collectives import Worker, differences_of_workers
from dynrcnn_ray.training.events import CheckpointDue, Finished, Logged, Note, Timed, TrialEvent
from dynrcnn_ray.training.inference import detect_all, detection_columns, metrics_of
from dynrcnn_ray.training.loop import train
from dynrcnn_ray.training.outcome import TrialOutcome
from dynrcnn_ray.training.snapshots import joined_columns, statistics_columns
from dynrcnn_ray.training.state import CheckpointError, TrainingState, build_training_state
from dynrcnn_ray.training.telemetry import DynamicsRow


def run_trial(
    trial: Trial,
    worker: Worker,
    *,
    checkpoint: dict[str, Any] | None = None,
    detector_weights: DetectorWeights | None = None,
) -> Iterator[TrialEvent]:
    """Train a trial to its end and evaluate it.

    Args:
        trial: the trial.
        worker: this process.
        checkpoint: training state to go on from.
        detector_weights: a trained detector to start from, where there is no checkpoint.

    Yields:
        Notes, rows of the dynamics, where a checkpoint is due, and at last the outcome, whose metrics, proposals,
        detections and images are on the first worker alone.

    Raises:
        CheckpointError: the checkpoint is not of this trial, or the workers do not start alike.
        TrainingDivergedError: a loss was not finite.
        DataError: the data cannot be used.
        WeightsError: the backbone's weights cannot be had, or the detector's do not fit.
    """
    config, inputs = trial.config, trial.inputs
    data = config.data
    if not (inputs.data and annotation_path(inputs.data_root, data.train_split).is_file()):
        # On another node than the one that prepared them, generated images may be missing.
        inputs = prepare_data(data, include_masks=config.model.has_masks, expected=inputs.data).inputs
    train_split = CocoDataset(inputs.data_root, data.train_split, include_masks=config.model.has_masks)
    val_split = CocoDataset(inputs.data_root, data.val_split)
    state = build_training_state(trial, len(train_split.class_names), worker)
    if checkpoint is not None:
        state.load_state_dict(checkpoint)
        yield Note(f"goes on from the checkpoint of step {state.step}")
    elif detector_weights is not None:
        yield Note(take_weights(state.model, detector_weights, train_split.class_names))
    _require_same_start(state, inputs.data, len(train_split))
    has_exploded = False
    began_at = time.time()
    for event in train(config, state, train_split):
        if isinstance(event, CheckpointDue):
            event = dataclasses.replace(event, is_best=_judge_checkpoint(config, state, val_split, event))
        if isinstance(event, Timed):
            event = dataclasses.replace(event, validation_images=len(val_split))
        yield event
        if isinstance(event, Logged) and not has_exploded and (note := _explosion_note(state.history)):
            has_exploded = True
            yield Note(note)
    # Of the first shard, where each followed its own.
    state.dynamic.shard = state.dynamic.own_shards.start
    trained = time.perf_counter()
    detections = detect_all(config, state.model, val_split, worker)
    metrics = metrics_of(config, val_split, detections) if worker.is_first else {}
    outcome = TrialOutcome(
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
    yield Finished(outcome)


def _require_same_start(state: TrainingState, fingerprint: str, images: int) -> None:
    """Refuse workers that would train different weights without a word.

    Raises:
        CheckpointError: they stand at different steps or have different data.
    """
    starts = differences_of_workers(f"step {state.step} with {images} images of data {fingerprint}", state.worker)
    if starts:
        listed = "; ".join(f"worker {rank} at {start}" for rank, start in starts.items())
        raise CheckpointError(f"the workers do not start alike: {listed}; give every node the same data and storage")


def _explosion_note(history: list[DynamicsRow]) -> str:
    return explosion_note([row["step"] for row in history], [row["loss"] for row in history])


def _judge_checkpoint(config: TrialConfig, state: TrainingState, val_split: CocoDataset, due: CheckpointDue) -> bool:
    """Evaluate in the middle of training, if that is configured; whether the AP is the best so far.

    A node may be about to go where a checkpoint was wanted, unless it is the last one.
    """
    state.checkpoint_average_precision = None
    if not config.run.evaluate_checkpoints or (due.is_wanted and state.step < config.total_steps):
        return False
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
