"""The configuration of a training run: its sections, its identity, its validation."""

from dynrcnn_ray.config.trial import Inputs, Trial
from dynrcnn_ray.config.trial_config import TrialConfig

__all__ = ["Inputs", "Trial", "TrialConfig"]
