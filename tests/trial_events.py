"""A trial run to its end, with what a test wants to see of it."""

from collections.abc import Callable
from typing import Any

from dynrcnn_ray.config import Trial, TrialConfig
from dynrcnn_ray.models.detector_weights import DetectorWeights
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.events import CheckpointDue, Finished, Logged, Note
from dynrcnn_ray.training.outcome import TrialOutcome
from dynrcnn_ray.training.state import TrainingState
from dynrcnn_ray.training.telemetry import DynamicsRow
from dynrcnn_ray.training.trial import run_trial
from tests.prepared import prepared


def run_to_end(
    of: TrialConfig | Trial,
    worker: Worker,
    *,
    checkpoint: dict[str, Any] | None = None,
    detector_weights: DetectorWeights | None = None,
    on_row: Callable[[DynamicsRow], object] = lambda row: None,
    on_checkpoint: Callable[[TrainingState, bool], object] = lambda state, is_best: None,
    on_note: Callable[[str], object] = lambda note: None,
    wants_checkpoint: Callable[[], bool] = lambda: False,
) -> TrialOutcome:
    trial = of if isinstance(of, Trial) else prepared(of)
    for event in run_trial(trial, worker, checkpoint=checkpoint, detector_weights=detector_weights):
        match event:
            case Note(text):
                on_note(text)
            case Logged(row):
                on_row(row)
                event.wants_checkpoint = wants_checkpoint()
            case CheckpointDue(state, is_best=is_best):
                on_checkpoint(state, is_best)
            case Finished(outcome):
                return outcome
    raise AssertionError("a trial ends by finishing, or raises")
