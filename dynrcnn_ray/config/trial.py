"""A trial: its configuration, and what was found of its data and files before it began. Its ids follow from both.

Everything that decides a run's result is part of its `trial_id`. What a run merely needs (paths, workers, how often
it reports) is not, so the same run is never done twice.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dynrcnn_ray.config.sections import FORBID_EXTRA, ModelConfig, TestConfig
from dynrcnn_ray.config.trial_config import TrialConfig

_ID_VERSION = 2
_WHERE_DATA_ARE = (
    "root",
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
class Inputs:
    """What a trial reads, as it was found before the trial began: the identity of its content, and where the data are.

    Attributes:
        data: fingerprint of the annotations and images that are used.
        data_root: the folder that the data are read from: the data set's own; or a copy, with annotations that had to
            be converted, or without invalid ones; or that of the generated images.
        weights: fingerprint of the backbone's weights, unless they are none or ImageNet's.
        detector_weights: fingerprint of the file of a detector to start from.
        module: fingerprint of the Python file that builds the model.
    """

    __pydantic_config__ = FORBID_EXTRA

    data: str = ""
    data_root: str = ""
    weights: str = ""
    detector_weights: str = ""
    module: str = ""


NOT_FOUND_YET = Inputs()
"""Of a configuration whose data and files nobody has looked at."""


@dataclass(frozen=True)
class Trial:
    """One training run with its inputs.

    Attributes:
        config: what somebody said.
        inputs: what it was found to be.
    """

    config: TrialConfig
    inputs: Inputs = NOT_FOUND_YET

    @property
    def trial_id(self) -> str:
        """Short hash of what decides the result: the same run has the same id everywhere.

        Data and files of weights count by their fingerprints, not by where they are. A field at its default does not
        count, so that a new field leaves the ids of old trials alone; a default never changes without `_ID_VERSION`.
        """
        config, inputs = self.config, self.inputs
        deciding = _differences(config, TrialConfig())
        for name in ("scale", "run"):
            deciding.pop(name, None)
        for name in _WHERE_DATA_ARE:
            deciding.get("data", {}).pop(name, None)
        of_model = deciding.get("model", {})
        if inputs.weights or config.model.detector_weights:
            # A detector brings its backbone along.
            of_model.pop("weights", None)
        if inputs.module:
            of_model.pop("module", None)
        if inputs.detector_weights:
            of_model.pop("detector_weights", None)
        for section, name, fingerprint in _fingerprints(inputs):
            if fingerprint:
                deciding.setdefault(section, {})[name] = fingerprint
        of_train = deciding.setdefault("train", {})
        of_train.pop("shards", None)
        if config.train.shards != shards_of_earlier_releases(config.train.global_batch):
            of_train["shards"] = config.train.shards
        if not of_train:
            del deciding["train"]
        for section, name in _without_effect(config):
            if deciding.get(section, {}).pop(name, None) is not None and not deciding[section]:
                del deciding[section]
        canonical = json.dumps([_ID_VERSION, deciding], sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def training_id(self) -> str:
        """The `trial_id` of the trial that trains the same weights and tests them by the default protocol.

        Checkpoints are known by it: trials that differ in their `test` section alone train once.
        """
        return dataclasses.replace(self, config=dataclasses.replace(self.config, test=TestConfig())).trial_id

    def with_seed(self, seed: int) -> "Trial":
        """The same run from another seed."""
        return dataclasses.replace(self, config=dataclasses.replace(self.config, seed=seed))


def _fingerprints(inputs: Inputs) -> Iterator[tuple[str, str, str]]:
    """Section, name and value of each fingerprint, as ids have them."""
    yield "data", "fingerprint", inputs.data
    yield "model", "weights_fingerprint", inputs.weights
    yield "model", "detector_weights_fingerprint", inputs.detector_weights
    yield "model", "module_fingerprint", inputs.module


def shards_of_earlier_releases(global_batch: int) -> int:
    """The shards with which the trials count that earlier releases trained, by their global batch.

    They had a shard a worker and left the number out of the id: 8 of `coco`'s 16 images, 2 of a smaller batch.
    """
    return math.gcd(global_batch, 8 if global_batch >= 16 else 2)


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
    if not model.module:
        yield "model", "options"
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
