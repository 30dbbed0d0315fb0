"""A trained detector to start from: reading its weights, and taking what fits."""

import dataclasses
import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights

from dynrcnn_ray.config.sections import ModelConfig
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.dynamic.state import DynamicTrainingState
from dynrcnn_ray.models.backbone_weights import downloaded
from dynrcnn_ray.models.detector import build_model
from dynrcnn_ray.models.state_dicts import UnreadableWeightsError, find_state_dict, read_content, without_wrapper
from dynrcnn_ray.models.weights import WeightsError, fingerprint_of_file, require_fingerprint

_TORCHVISION = {
    "faster_rcnn": "fasterrcnn_resnet50_fpn",
    "cascade_rcnn": "fasterrcnn_resnet50_fpn",
    "mask_rcnn": "maskrcnn_resnet50_fpn",
    "cascade_mask_rcnn": "maskrcnn_resnet50_fpn",
    "retinanet": "retinanet_resnet50_fpn",
    "fcos": "fcos_resnet50_fpn",
}
_ROWS_OF_A_CLASS = {"cls_score": 1, "bbox_pred": 4, "mask_fcn_logits": 1, "cls_logits": 0}
"""Rows that a class has in the layers that have some for each class; 0: not class by class."""
_CLASS_AGNOSTIC_ROWS = 4
_WITH_CLASSES = ("roi_heads.", "head.classification_head.")
_BACKBONE = "backbone.body."
_PART_OF_A_BODY = "layer1.0."
_OFFSETS = ".conv2.offset."
_COUNT_OF_BATCHES = ".num_batches_tracked"
"""What a batch norm has beside a frozen one."""
_PARTS = {"FPN": "backbone.fpn.", "RPN": "rpn.head.", "box head": "roi_heads.box_head.", "head": "head."}
"""What a detector has above its backbone, by the beginning of its names; detectors of one stage have the last."""
_WIDTHS = {
    "model.fpn-channels": "backbone.fpn.inner_blocks.0.0.weight",
    "model.head-channels": "roi_heads.box_head.fc6.weight",
}
_FORMER_NAMES: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)", lambda old: f"{old[1]}.0.{old[2]}"),
    (r"(rpn\.head\.conv)\.(weight|bias)", lambda old: f"{old[1]}.0.0.{old[2]}"),
    (r"(roi_heads\.mask_head)\.mask_fcn(\d)\.(weight|bias)", lambda old: f"{old[1]}.{int(old[2]) - 1}.0.{old[3]}"),
    (r"(head\.\w+\.conv)\.([0246])\.(weight|bias)", lambda old: f"{old[1]}.{int(old[2]) // 2}.0.{old[3]}"),
)
"""Names of earlier torchvision, which its older files have, and what they are now: it renames them as it loads."""
_MOST_NAMES = 8


class DetectorWeights(NamedTuple):
    """Weights of a trained detector.

    Attributes:
        state: its state_dict.
        class_names: its classes in the order of their labels, the background not among them; None if unknown.
        origin: where it comes from, for people.
    """

    state: dict[str, Tensor]
    class_names: Sequence[str] | None
    origin: str


def read_detector_weights(config: ModelConfig, fingerprint: str = "") -> DetectorWeights:
    """The weights that `model.detector_weights` names as `coco` or by a file.

    A file is a state_dict, or holds one as an entry, as a checkpoint does, perhaps with `class_names` beside it.

    Raises:
        WeightsError: they cannot be downloaded or read, or are not those of the fingerprint.
    """
    if config.detector_weights == "coco":
        return _of_torchvision(_TORCHVISION[config.name])
    file = Path(config.detector_weights)
    found = fingerprint_of_file(file) if file.is_file() else "none"
    require_fingerprint("detector_weights", str(file), found, fingerprint)
    try:
        content = read_content(file)
        state, entry = find_state_dict(content)
    except UnreadableWeightsError as error:
        raise WeightsError(f"model.detector_weights: {str(file)!r} {error}") from None
    names = content.get("class_names")
    is_named = isinstance(names, list) and all(isinstance(name, str) for name in names)
    origin = f"file {file}" + (f" (its entry {entry!r})" if entry else "")
    return DetectorWeights(state, names if is_named else None, origin)


def weights_of_checkpoint(content: bytes, origin: str, class_names: Sequence[str] | None) -> DetectorWeights:
    """The weights in a trial's own checkpoint.

    Args:
        content: its bytes.
        origin: where it comes from, for people.
        class_names: the trial's classes, if they are known.
    """
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)["model"]
    return DetectorWeights(state, class_names, origin)


def require_fit(config: TrialConfig, weights: DetectorWeights) -> None:
    """Refuse a detector of which less than backbone, FPN, RPN and box head would be taken over, before any is built.

    A cascade has a box head for each stage, and may start from a detector with one.

    Raises:
        WeightsError: its backbone is not the model's, or another part does not fit.
    """
    plain = dataclasses.replace(config.model, weights="none", detector_weights="")
    config = dataclasses.replace(config, model=plain)
    own = build_model(config, 1, DynamicTrainingState(config, device=torch.device("cpu"))).state_dict()
    weights, _ = _with_own_names(weights, own)
    taken = {name for name, value in own.items() if _fits(value, weights.state.get(name))}
    _require_backbone(own, taken, weights)
    left = _parts_left(own, taken)
    if plain.is_cascade:
        left.pop("box head", None)
    if not left:
        return
    names = [name for of_part in left.values() for name in of_part]
    theirs = [
        f"{field} {len(weights.state[name])}" for field, name in _WIDTHS.items() if weights.state.get(name) is not None
    ]
    remedy = f"choose its widths, --{' --'.join(theirs)}, and its model.name" if theirs else "choose another detector"
    raise WeightsError(
        f"model.detector_weights: the {' and the '.join(left)} of {weights.origin} would not be taken over "
        f"({len(names)} tensors are missing or of another shape, such as {names[0]}); {remedy}"
    )


def take_weights(model: nn.Module, weights: DetectorWeights, class_names: Sequence[str]) -> str:
    """Give a model every tensor of another detector that has the same name and shape.

    In the layers that have rows for each class, a class of the same name keeps its rows and a new one starts anew.
    Where the other's class names are unknown such a layer is taken whole, or not at all.

    Args:
        model: a detector with initial weights; changed in place.
        weights: the other detector.
        class_names: the model's classes, in the order of their labels.

    Returns:
        What was taken and what was not, in a line.

    Raises:
        WeightsError: the other's backbone is not this one.
    """
    own = model.state_dict()
    weights, prefix = _with_own_names(weights, own)
    taken: dict[str, Tensor] = {}
    mixed = []
    for name, value in own.items():
        other = weights.state.get(name)
        if other is None:
            continue
        rows = _rows_of_a_class(name, value)
        if rows is None or weights.class_names is None or list(weights.class_names) == list(class_names):
            if _fits(value, other):
                taken[name] = other
        elif rows and (joined := _class_by_class(value, other, rows, weights.class_names, class_names)) is not None:
            taken[name] = joined
            mixed.append(name)
    _require_backbone(own, taken, weights)
    model.load_state_dict(own | taken)
    if prefix:
        weights = weights._replace(origin=f"{weights.origin}, names without {prefix!r}")
    return _what_was_taken(own, taken, weights, class_names, is_mixed=bool(mixed))


def _with_own_names(weights: DetectorWeights, own: Mapping[str, Tensor]) -> tuple[DetectorWeights, str]:
    state, prefix = without_wrapper(weights.state, own)
    state = {name if name in own else _present_name(name, own): value for name, value in state.items()}
    return weights._replace(state=state), prefix


def _present_name(name: str, own: Mapping[str, Tensor]) -> str:
    """The name that torchvision gives a tensor now, where the model has it; else its own."""
    for pattern, present in _FORMER_NAMES:
        found = re.fullmatch(pattern, name)
        if found and (renamed := present(found)) in own:
            return renamed
    return name


def _parts_left(own: Mapping[str, Tensor], taken: Collection[str]) -> dict[str, list[str]]:
    """Names of what is not taken, by the part that it is of; layers that have rows for each class are of none."""
    left = {
        part: [
            name
            for name, value in own.items()
            if name.startswith(prefix) and name not in taken and _rows_of_a_class(name, value) is None
        ]
        for part, prefix in _PARTS.items()
    }
    return {part: names for part, names in left.items() if names}


def _fits(own: Tensor, other: Tensor | None) -> bool:
    return other is not None and other.shape == own.shape


def _rows_of_a_class(name: str, value: Tensor) -> int | None:
    """Rows of each class in a layer; None if it has none of its own for each."""
    if not name.startswith(_WITH_CLASSES):
        return None
    layer = name.split(".")[-2]
    is_class_agnostic = layer == "bbox_pred" and len(value) == _CLASS_AGNOSTIC_ROWS
    return None if is_class_agnostic else _ROWS_OF_A_CLASS.get(layer)


def _class_by_class(
    own: Tensor, other: Tensor, rows: int, their_names: Sequence[str], own_names: Sequence[str]
) -> Tensor | None:
    """The layer with the rows of the background and of the classes that both know; None if the layers differ."""
    fits = other.shape[1:] == own.shape[1:] and len(other) == rows * (1 + len(their_names))
    if not fits or len(own) != rows * (1 + len(own_names)):
        return None
    known = _same_class(their_names, own_names)
    pairs = [(0, 0), *((1 + at, 1 + index) for at, index in known.items())]
    joined = own.clone().reshape(1 + len(own_names), rows, *own.shape[1:])
    theirs = other.reshape(1 + len(their_names), rows, *other.shape[1:]).to(joined)
    for at, found in pairs:
        joined[at] = theirs[found]
    return joined.reshape(own.shape)


def _same_class(their_names: Sequence[str], own_names: Sequence[str]) -> dict[int, int]:
    """The place among their classes of each own one that they have: by its name, else by one in another case.

    Two own classes that differ in their case alone are told apart, so neither takes a name in a third spelling.
    """
    exact, folded = (
        {name: at for at, name in enumerate(names)} for names in (their_names, map(str.casefold, their_names))
    )
    spellings = Counter(map(str.casefold, own_names))
    found = {
        at: exact.get(name, folded.get(name.casefold()) if spellings[name.casefold()] == 1 else None)
        for at, name in enumerate(own_names)
    }
    return {at: place for at, place in found.items() if place is not None}


def _require_backbone(own: Mapping[str, Tensor], taken: Collection[str], weights: DetectorWeights) -> None:
    # What a deformable convolution has beside a plain one begins at zero.
    missing = [name for name in own if name.startswith(_BACKBONE) and name not in taken and _OFFSETS not in name]
    if not missing:
        return
    remedy = "choose its model.backbone and model.norm"
    if any(_PART_OF_A_BODY in name for name in weights.state) and not any("backbone" in name for name in weights.state):
        remedy = "it is a backbone's: give it as --model.weights"
    raise WeightsError(
        f"model.detector_weights: {weights.origin} has another backbone ({len(missing)} tensors do not fit, such as "
        f"{missing[0]}); {remedy}"
    )


def _what_was_taken(
    own: dict[str, Tensor],
    taken: dict[str, Tensor],
    weights: DetectorWeights,
    class_names: Sequence[str],
    *,
    is_mixed: bool,
) -> str:
    parts_left = _parts_left(own, taken)
    parts = [f"starts from {weights.origin}: {len(taken)} of {len(own)} tensors taken"]
    if parts_left:
        begin = "begins untrained, as that" if len(parts_left) == 1 else "begin untrained, as those"
        fit = "does" if len(parts_left) == 1 else "do"
        named_parts = " and the ".join(parts_left)
        parts.insert(0, f"WARNING: the {named_parts} {begin} of the weights {fit} not fit")
    left = [name for name in own if name not in taken]
    if left:
        parts.append(f"new: {_shortened(left)}")
    unused = [name for name in weights.state if name not in own and not name.endswith(_COUNT_OF_BATCHES)]
    if unused:
        parts.append(f"not used: {_shortened(unused)}")
    if is_mixed and weights.class_names is not None:
        same = _same_class(weights.class_names, class_names)
        known, others = (
            [name for at, name in enumerate(class_names) if (at in same) is kept] for kept in (True, False)
        )
        parts.append(f"classes taken by name: {_shortened(known)}; new classes: {_shortened(others)}")
    elif weights.class_names is None and any(_rows_of_a_class(name, own[name]) is not None for name in taken):
        parts.append("the class layers too, as their class names are unknown and their shapes the same")
    return "; ".join(parts)


def _shortened(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES]) or "none"
    return f"{shown} and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else shown


def _of_torchvision(name: str) -> DetectorWeights:
    weights = get_model_weights(name)["COCO_V1"]
    state = downloaded(weights, "model.detector_weights: 'coco'")
    # The first is the background.
    return DetectorWeights(state, weights.meta["categories"][1:], f"torchvision's {name}, trained on COCO")
