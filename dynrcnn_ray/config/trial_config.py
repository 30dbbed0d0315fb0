"""The configuration of one training run: a tree of frozen dataclasses.

Everything that decides a run's result is part of its `trial_id`. What a run merely needs (paths, workers, how often
it reports) is not, so the same run is never done twice.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

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

_ID_VERSION = 2
_WHERE_DATA_ARE = (
    "root",
    "source_root",
    "shapes",
    "train_annotations",
    "train_images",
    "val_annotations",
    "val_images",
)
"""Fields of `DataConfig` that say where the data are, or how they are made: their fingerprint stands for them."""

_OF_STATISTICS = (
    "convention",
    "all_reduce",
    "count_ground_truths",
    "iou_top_k",
    "beta_top_k",
    "initial_iou",
    "initial_beta",
)
"""Fields of `DynamicConfig` on what is taken of proposals, and what is made of it."""


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
    def trial_id(self) -> str:
        """Short hash of the fields that decide the result: the same run has the same id everywhere.

        Data and files of weights count by their fingerprints, not by where they are: fill those in first. A field at
        its default does not count, so that a new field leaves the ids of old trials alone; a default never changes
        without `_ID_VERSION`.
        """
        deciding = _differences(self, TrialConfig())
        for name in ("scale", "run"):
            deciding.pop(name, None)
        for name in _WHERE_DATA_ARE:
            deciding.get("data", {}).pop(name, None)
        of_model = deciding.get("model", {})
        if self.model.weights_fingerprint:
            of_model.pop("weights", None)
        if self.model.module_fingerprint:
            of_model.pop("module", None)
        if self.model.detector_weights:
            # A detector brings its backbone along.
            of_model.pop("weights", None)
            of_model.pop("weights_fingerprint", None)
        if self.model.detector_weights_fingerprint:
            of_model.pop("detector_weights", None)
        if self._is_split_over_workers or self.run.distinct_by_workers:
            deciding["num_workers"] = self.run.num_workers
        for section, name in _without_effect(self):
            if deciding.get(section, {}).pop(name, None) is not None and not deciding[section]:
                del deciding[section]
        canonical = json.dumps([_ID_VERSION, deciding], sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def training_id(self) -> str:
        """The `trial_id` of the trial that trains the same weights and tests them by the default protocol.

        Checkpoints are known by it: trials that differ in their `test` section alone train once.
        """
        return dataclasses.replace(self, test=TestConfig()).trial_id

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

    @property
    def _is_split_over_workers(self) -> bool:
        """Whether the number of workers decides what dynamic training sees."""
        return not (self.dynamic.is_independent_of_split or _has_no_proposals(self.model))

    def _per_sampled_rois(self, count_of_512: int) -> int:
        return max(1, math.floor(count_of_512 * self.model.rois_per_image / SAMPLED_ROIS + 0.5))


def as_given(config: TrialConfig) -> TrialConfig:
    """A configuration without what a run has filled in: as one would write it, to start from again."""
    data, model = config.data, config.model
    is_generated = data.fingerprint.startswith("shapes-")
    is_copy = data.source_root or data.train_annotations or data.val_annotations
    root = "" if is_generated else data.source_root if is_copy else data.root
    return dataclasses.replace(
        config,
        data=dataclasses.replace(data, root=root, source_root="", fingerprint=""),
        model=dataclasses.replace(
            model, weights_fingerprint="", detector_weights_fingerprint="", module_fingerprint=""
        ),
    )


def _without_effect(config: TrialConfig) -> Iterator[tuple[str, str]]:
    """Section and name of the fields that nothing reads, as others leave out what they belong to."""
    data, model, dynamic, train, test = config.data, config.model, config.dynamic, config.train, config.test
    if dynamic.dla or model.is_cascade or model.is_one_stage:
        yield "dynamic", "fixed_iou"
    if dynamic.dsl or model.is_one_stage:
        yield "dynamic", "fixed_beta"
    if _has_no_proposals(model):
        # Not those that scales set: stored trials have them in their ids.
        yield from (("dynamic", name) for name in _OF_STATISTICS)
        yield from (("model", "rpn_nms_iou"), ("model", "positive_fraction"))
    if not data.val_fraction:
        yield "data", "val_seed"
    if not train.warmup_steps:
        yield "train", "warmup_factor"
    if train.warmup_factor == 1:
        yield "train", "warmup_steps"
    if not data.train_short_sides:
        yield "data", "train_long_side"
    if not test.multi_scale:
        yield "test", "multi_scale_short_sides"
    if not (test.multi_scale and test.multi_scale_short_sides):
        yield "test", "multi_scale_long_side"
    if test.soft_nms == "off":
        yield "test", "soft_nms_min_score"
    if test.soft_nms != "linear":
        yield "test", "soft_nms_iou"
    if test.soft_nms != "gaussian":
        yield "test", "soft_nms_sigma"


def _has_no_proposals(model: ModelConfig) -> bool:
    """A detector of one stage, unless somebody's own module builds it: that may read what it likes."""
    return model.is_one_stage and not model.module


def _differences(value: Any, default: Any) -> dict[str, Any]:
    """The fields of a dataclass tree that are not as in the default, as a tree of dictionaries."""
    differences = {}
    for item in dataclasses.fields(value):
        own, other = getattr(value, item.name), getattr(default, item.name)
        if own != other:
            differences[item.name] = _differences(own, other) if dataclasses.is_dataclass(own) else own
    return differences
