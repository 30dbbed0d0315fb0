"""How long a plan takes: an estimate from a throughput that is written down here, before anything has run.

Scale `mini`: measured on two CPU cores that did nothing else, one trial of two workers at a time
(`experiments/reference_mini`).
Scale `photos`: processor time of steps on one core that other programs shared, at the scale's own size (PASCAL VOC's
animals); `check-data` measures anew.
Scale `coco`: assumed, not measured by this project: what ResNet-50-FPN at 800 pixels does on one GPU of the V100's
class. Factors for other models are rough.
"""

from collections.abc import Iterable

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig

# Images per second in training: of one worker with one core, or with one GPU.
IMAGES_PER_SECOND = {"smoke": 60.0, "mini": 25.0, "photos": 0.2, "coco": 10.0}
PLACES = {"smoke": 2, "mini": 2, "photos": 2, "coco": 8}
"""Cores or GPUs that the wall time is stated for."""
STARTUP_SECONDS = {"smoke": 5.0, "mini": 12.0, "photos": 12.0, "coco": 120.0}
_BACKBONE = {"small": 1.3, "resnet101": 1.5}
_MODEL = {"mask_rcnn": 1.4, "cascade_rcnn": 1.6, "cascade_mask_rcnn": 2.0}
_DEFORMABLE = 1.4
_MULTI_SCALE_TRAINING = 1.2
_MULTI_SCALE_TESTS = 24.0
_VAL_IMAGES = {"smoke": 8, "mini": 300, "photos": 289, "coco": 5000}
_TEST_OVER_TRAINING = 3.0
"""Images are tested so many times as fast as they are trained on."""


def place_seconds(trials: Iterable[Trial]) -> float:
    """Seconds of one core or GPU that trials take together; trainings that they share count once."""
    total = 0.0
    trained: set[str] = set()
    for trial in trials:
        config = trial.config
        image = _seconds_per_image(config)
        total += STARTUP_SECONDS[config.scale] * config.run.num_workers
        total += _testing_seconds(config, image, _VAL_IMAGES[config.scale])
        if trial.training_id not in trained:
            trained.add(trial.training_id)
            total += config.total_steps * config.train.global_batch * image
    return total


def seconds_left(config: TrialConfig, step_seconds: float, steps: int, validation_images: int) -> float:
    """Seconds that a training and its evaluations still take, from the time that its steps were measured to take.

    Args:
        config: the trial.
        step_seconds: of one step, on all of its workers.
        steps: that are left.
        validation_images: of the split that it is evaluated on.
    """
    image = step_seconds / config.train.global_batch
    at_checkpoints = (steps - 1) // config.run.checkpoint_every if config.run.evaluate_checkpoints else 0
    return steps * step_seconds + (1 + at_checkpoints) * _testing_seconds(config, image, validation_images)


def wall_seconds(trials: Iterable[Trial], scale: str) -> float:
    """Seconds until all trials are done on `PLACES` cores or GPUs that are never idle."""
    return place_seconds(trials) / PLACES[scale]


def duration(seconds: float) -> str:
    """Seconds for people; from a minute on in minutes or hours."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36000 else f"{seconds / 3600:.0f} h"


def _seconds_per_image(config: TrialConfig) -> float:
    factor = _BACKBONE.get(config.model.backbone, 1.0) * _MODEL.get(config.model.name, 1.0)
    factor *= _DEFORMABLE if config.model.deformable else 1.0
    factor *= _MULTI_SCALE_TRAINING if config.data.train_short_sides else 1.0
    return factor / IMAGES_PER_SECOND[config.scale]


def _testing_seconds(config: TrialConfig, seconds_per_image: float, images: int) -> float:
    passes = _MULTI_SCALE_TESTS if config.test.multi_scale else 1.0
    return images * passes * seconds_per_image / _TEST_OVER_TRAINING
