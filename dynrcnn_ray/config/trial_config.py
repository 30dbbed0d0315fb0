"""The configuration of one training run: a tree of frozen dataclasses.

It is what somebody says. What was found of its data and files before a run is in `trial.Inputs`.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge

from dynrcnn_ray.config.sections import (
    FORBID_EXTRA,
    SAMPLED_ROIS,
    DataConfig,
    DynamicConfig,
    ModelConfig,
    RunConfig,
    TestConfig,
    TrainConfig,
)


@dataclass(frozen=True)
class TrialConfig:
    """One training run."""

    __pydantic_config__ = FORBID_EXTRA

    scale: str = "coco"
    """Name of the scale that this configuration started from."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of the initial weights, the data order, the flips and the RoI sampling."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    dynamic: DynamicConfig = field(default_factory=DynamicConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    test: TestConfig = field(default_factory=TestConfig)
    run: RunConfig = field(default_factory=RunConfig)

    @property
    def batch_ratio(self) -> float:
        """Global batch over reference batch: the factor of the learning rate, and the divisor of the schedule."""
        return self.train.global_batch / self.train.reference_batch

    @property
    def total_steps(self) -> int:
        """Steps of this run, at its global batch."""
        return max(1, round(self.train.steps / self.batch_ratio))

    @property
    def iou_top_k(self) -> int:
        """K_I for the RoIs that this model samples."""
        return self._per_sampled_rois(self.dynamic.iou_top_k)

    @property
    def beta_top_k(self) -> int:
        """K_beta for the RoIs that this model samples."""
        return self._per_sampled_rois(self.dynamic.beta_top_k)

    def _per_sampled_rois(self, count_of_512: int) -> int:
        return max(1, math.floor(count_of_512 * self.model.rois_per_image / SAMPLED_ROIS + 0.5))
