"""What a finished trial has to say."""

from dataclasses import dataclass
from typing import Any

import numpy as np

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
