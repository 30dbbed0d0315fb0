"""A configuration checked, and as YAML."""

import dataclasses
import difflib
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, overload

from pydantic import TypeAdapter, ValidationError

from dynrcnn_ray.config.errors import DynrcnnError, one_line
from dynrcnn_ray.config.sections import PRETRAINING_SEED, DataConfig, ModelConfig
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.yaml_text import dump, load

_Kind = TypeVar("_Kind")
FORMER_INPUTS = {
    "data.fingerprint": "data",
    "model.weights_fingerprint": "weights",
    "model.detector_weights_fingerprint": "detector_weights",
    "model.module_fingerprint": "module",
}
"""Where configurations of earlier releases had the fingerprints, and what they are in `Inputs`."""
FORMER_ROOT = "data.source_root"
"""Where they had the data set's own folder, while `data.root` was that of a copy."""
_FOUND_BY_ITSELF = "is found by itself before a run; leave it out"


@functools.cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """What checks and reads a dataclass."""
    return TypeAdapter(kind)


class ConfigError(DynrcnnError, ValueError):
    """A configuration that cannot be run. Its text is one line: the field, the value, what is allowed."""

    would_repeat = True


def validate(config: TrialConfig) -> TrialConfig:
    """Check types, ranges and what the fields demand of each other.

    Raises:
        ConfigError: naming the field, its value and what is allowed.
    """
    parsed = parse_tree(dataclasses.asdict(config))
    if parsed.train.global_batch % parsed.train.shards:
        raise ConfigError(
            f"train.shards: {parsed.train.shards} does not divide train.global_batch = {parsed.train.global_batch}; "
            "choose a divisor"
        )
    if parsed.run.num_workers > parsed.train.shards:
        raise ConfigError(
            f"run.num_workers: {parsed.run.num_workers} is above train.shards = {parsed.train.shards}, and a shard is "
            f"trained by one worker; choose at most {parsed.train.shards}, or more --train.shards, which is another "
            "trial"
        )
    if parsed.run.min_workers > parsed.run.num_workers:
        raise ConfigError(
            f"run.min_workers: {parsed.run.min_workers} is above run.num_workers = {parsed.run.num_workers}; "
            "it must be at most as large"
        )
    if parsed.data.long_side < parsed.data.short_side:
        raise ConfigError(
            f"data.long_side: {parsed.data.long_side} is below data.short_side = {parsed.data.short_side}; "
            "it must be at least as large"
        )
    if 0 < parsed.run.gpu < 1 and parsed.run.num_workers > 1:
        raise ConfigError(
            f"run.gpu: {parsed.run.gpu} of a GPU is for trials of one worker, as NCCL takes no two workers of a trial "
            f"on one GPU, and run.num_workers is {parsed.run.num_workers}; choose 1, or --num-workers 1"
        )
    _check_data(parsed.data)
    _check_combinations(parsed)
    return parsed


def _check_data(data: DataConfig) -> None:
    """Refuse data that are named by halves, or twice."""
    for split in ("train", "val"):
        file, folder = getattr(data, f"{split}_annotations"), getattr(data, f"{split}_images")
        if bool(file) != bool(folder):
            given, missing = ("annotations", "images") if file else ("images", "annotations")
            raise ConfigError(
                f"data.{split}_{given}: {file or folder!r} needs data.{split}_{missing} beside it; give both"
            )
    if data.train_annotations and data.val_annotations and data.train_split == data.val_split:
        raise ConfigError(
            f"data.val_split: {data.val_split!r} is the name of data.train_split too, and their files are two; give "
            "another name"
        )
    if data.val_annotations and not (data.train_annotations or data.root):
        raise ConfigError(
            f"data.val_annotations: {data.val_annotations!r} is for validation alone; give data.train_annotations, or "
            "data.root"
        )
    if data.train_annotations and not (data.val_annotations or data.val_fraction or data.root):
        raise ConfigError(
            f"data.train_annotations: {data.train_annotations!r} is for training alone; give data.val_annotations, or "
            "hold images out with --data.val-fraction 0.2"
        )
    if data.val_fraction and not data.is_given:
        raise ConfigError(f"data.val_fraction: {data.val_fraction} is for data of your own; give data.root")
    if data.val_fraction and data.val_annotations:
        raise ConfigError(
            f"data.val_fraction: {data.val_fraction} holds out images, but data.val_annotations names others; give one"
        )
    if data.val_fraction and data.train_split == data.val_split:
        raise ConfigError(
            f"data.val_fraction: {data.val_fraction} makes a split data.val_split, which is {data.val_split!r} like "
            "data.train_split; give another name"
        )


def _check_combinations(parsed: TrialConfig) -> None:
    """Refuse what no single field shows to be wrong."""
    model, train = parsed.model, parsed.train
    _check_weights(parsed)
    names = [name for name, _, _ in (option.partition("=") for option in model.options)]
    for option, name in zip(model.options, names, strict=True):
        if "=" not in option or not name.isidentifier():
            raise ConfigError(f"model.options: {option!r} must be NAME=VALUE")
        if names.count(name) > 1:
            raise ConfigError(f"model.options: {name!r} stands twice; give it once")
    if model.stride_in_1x1 and model.backbone not in ("resnet50", "resnet101"):
        raise ConfigError(
            f"model.stride_in_1x1: {model.backbone} has no bottlenecks, and so no 1x1 to stride in; leave it out, or "
            "choose resnet50 or resnet101"
        )
    if train.precision == "float16" and not parsed.run.gpu:
        raise ConfigError(
            "train.precision: 'float16' needs a GPU (--run.gpu 1); without one choose bfloat16 or float32"
        )
    if train.precision == "bfloat16" and model.deformable and not parsed.run.gpu:
        raise ConfigError(
            "train.precision: deformable convolutions have no 'bfloat16' on a CPU; choose float32, or --run.gpu 1"
        )
    if parsed.run.deterministic and parsed.run.gpu and model.deformable:
        raise ConfigError(
            "run.deterministic: deformable convolutions add up their gradients in any order on a GPU; leave it out, or "
            "train without --model.deformable"
        )
    if (model.is_cascade or model.is_one_stage) and (parsed.dynamic.dla or parsed.dynamic.dsl):
        raise ConfigError(
            f"model.name: {model.name!r} trains at fixed thresholds; "
            "add --dynamic.no-dla --dynamic.no-dsl, or choose faster_rcnn or mask_rcnn"
        )
    if model.has_masks and parsed.test.multi_scale:
        raise ConfigError(f"test.multi_scale: True works on boxes alone; model.name is {model.name!r}")
    if model.is_one_stage and (parsed.test.multi_scale or parsed.test.soft_nms != "off"):
        raise ConfigError(
            f"model.name: {model.name!r} is tested by its own NMS at one size; leave out --test.multi-scale and "
            "--test.soft-nms"
        )
    if list(parsed.train.milestones) != sorted(set(parsed.train.milestones)):
        raise ConfigError(f"train.milestones: {parsed.train.milestones} must rise from one to the next")


def _check_weights(parsed: TrialConfig) -> None:
    """Refuse pretrained weights that the backbone cannot take, or that have seen the trial's own images."""
    model, data = parsed.model, parsed.data
    if model.detector_weights:
        _check_detector_weights(model)
        return
    is_small = model.backbone in ("tiny", "small")
    if model.weights == "imagenet" and (is_small or model.norm != "frozen_batch_norm"):
        raise ConfigError(
            f"model.weights: 'imagenet' fits a ResNet with frozen_batch_norm, not {model.backbone} with {model.norm}; "
            "choose those, or 'none', or 'shapes' for tiny and small with group_norm, or a file"
        )
    if model.weights == "shapes" and (not is_small or model.norm != "group_norm"):
        raise ConfigError(
            f"model.weights: 'shapes' fits tiny and small with group_norm, not {model.backbone} with {model.norm}; "
            "choose those, or 'none', or 'imagenet' with frozen_batch_norm, or a file"
        )
    if not data.is_given and data.shapes.seed == PRETRAINING_SEED and model.weights not in ("none", "imagenet"):
        raise ConfigError(
            f"data.shapes.seed: {PRETRAINING_SEED} makes the images on which pretrained weights were made; choose "
            "another seed, or --model.weights none"
        )


def _check_detector_weights(model: ModelConfig) -> None:
    """Refuse torchvision's detectors where their backbone is another one."""
    has_their_backbone = (model.backbone, model.norm, model.stride_in_1x1) == ("resnet50", "frozen_batch_norm", False)
    if model.detector_weights == "coco" and not has_their_backbone:
        raise ConfigError(
            f"model.detector_weights: 'coco' has resnet50 with frozen_batch_norm, not {model.backbone} with "
            f"{model.norm}{' and stride_in_1x1' if model.stride_in_1x1 else ''}; choose those, or another detector"
        )


def to_yaml(config: TrialConfig) -> str:
    """The whole configuration as YAML, in the order of its fields."""
    return dump(adapter(TrialConfig).dump_python(config, mode="json"))


def from_yaml(text: str) -> TrialConfig:
    """Read a configuration from a file, by YAML 1.2; fields left out keep their defaults.

    Raises:
        ConfigError: not YAML, a field that stands twice or is unknown, a wrong type or a value out of range.
    """
    tree = tree_of(text, "the configuration", load)
    if "inputs" in tree:
        raise ConfigError(f"inputs: what a trial reads {_FOUND_BY_ITSELF}")
    for path in (*FORMER_INPUTS, FORMER_ROOT):
        _refuse_found(path, taken(tree, path))
    return validate(_parse_strictly(tree, TrialConfig))


def taken(tree: dict[str, Any], path: str) -> Any:
    """Take a field of an earlier release out of a configuration; empty where it is not there."""
    section, _, name = path.partition(".")
    fields = tree.get(section)
    return fields.pop(name, "") if isinstance(fields, dict) else ""


def _refuse_found(path: str, value: Any) -> None:
    """Refuse a value for what nobody says; earlier releases wrote it empty."""
    if value != "":
        raise ConfigError(f"{path}: {value!r} {_FOUND_BY_ITSELF}")


def parse_yaml(kind: type[_Kind], text: str, what: str) -> _Kind:
    """Read a dataclass from YAML 1.2, each value of its field's own type; fields left out keep their defaults.

    Args:
        kind: the dataclass.
        text: the YAML.
        what: what it is, for errors.

    Raises:
        ConfigError: not YAML, a field that stands twice or is unknown, a wrong type or a value out of range.
    """
    return _parse_strictly(tree_of(text, what, load), kind)


def tree_of(text: str, what: str, load: Callable[[str], Any]) -> dict[str, Any]:
    """The mapping that a YAML text holds; `what` it is, for errors, and what `load`s it.

    Raises:
        ConfigError: it is not YAML, or no mapping.
    """
    try:
        tree = load(text)
        json.dumps(tree)
    except Exception as error:  # Whatever a parser of YAML raises.
        raise ConfigError(f"{what} is not valid YAML: {one_line(error)}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{what} must be a mapping of fields, not {type(tree).__name__}")
    return tree


def with_texts(config: TrialConfig, texts: Mapping[str, Any]) -> TrialConfig:
    """The same as `with_values`, where a text is taken as on the command line."""
    return parse_tree(_changed(config, {path: _from_text(text) for path, text in texts.items()}))


def with_values(config: TrialConfig, values: Mapping[str, Any]) -> TrialConfig:
    """The same configuration with other values of some fields; what fields demand of each other is not checked.

    Args:
        config: where to start.
        values: of the field's own type, by its path such as `dynamic.iou_top_k`.

    Raises:
        ConfigError: a field is unknown or its value not allowed.
    """
    return _parse_strictly(_changed(config, values), TrialConfig)


def _changed(config: TrialConfig, values: Mapping[str, Any]) -> dict[str, Any]:
    tree = dataclasses.asdict(config)
    known = list(field_paths(config))
    for path, value in values.items():
        if path in FORMER_INPUTS or path == FORMER_ROOT:
            _refuse_found(path, value)
            continue
        if path not in known:
            similar = difflib.get_close_matches(path, known, n=1)
            raise ConfigError(f"{path}: unknown field{f'; did you mean {similar[0]}?' if similar else ''}")
        *sections, name = path.split(".")
        branch = tree
        for section in sections:
            branch = branch[section]
        branch[name] = value
    return tree


def _from_text(text: Any) -> Any:
    """A list that is written as one; pydantic takes all else as it stands."""
    is_list = isinstance(text, str) and text.startswith("[") and text.endswith("]")
    return [part.strip() for part in text[1:-1].split(",") if part.strip()] if is_list else text


def field_paths(config: Any, prefix: str = "") -> Iterator[str]:
    """The path of every field of a dataclass tree, such as `dynamic.iou_top_k`."""
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            yield from field_paths(value, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}"


@overload
def parse_tree(tree: dict[str, Any]) -> TrialConfig: ...
@overload
def parse_tree(tree: dict[str, Any], kind: type[_Kind]) -> _Kind: ...
def parse_tree(tree: dict[str, Any], kind: Any = TrialConfig) -> Any:
    """A dataclass from a tree of its fields.

    Raises:
        ConfigError: a field is unknown, of a wrong type or out of range.
    """
    try:
        return adapter(kind).validate_python(tree)
    except ValidationError as error:
        raise ConfigError("; ".join(_one_line(detail) for detail in error.errors())) from None


def _parse_strictly(tree: dict[str, Any], kind: type[_Kind]) -> _Kind:
    """As `_parse`, but a number in quotes is text, a truth value no number, and 1.0 no whole number."""
    try:
        # As JSON, since strictness in Python's own types wants tuples where YAML has lists.
        return adapter(kind).validate_json(json.dumps(tree), strict=True)
    except ValidationError as error:
        raise ConfigError("; ".join(_one_line(detail) for detail in error.errors())) from None


def _one_line(detail: Any) -> str:
    path = " ".join(".".join(str(part) for part in detail["loc"]).split())
    if detail["type"] == "unexpected_keyword_argument":
        return f"{path}: unknown field"
    requirement = detail["msg"].replace("Input should be", "must be")
    return f"{path}: {detail['input']!r} {requirement}"
