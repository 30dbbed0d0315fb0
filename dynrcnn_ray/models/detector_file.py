"""A trained detector in one file: its weights by torchvision's names, its classes, and how it is built."""

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError, from_yaml, to_yaml
from dynrcnn_ray.models.state_dicts import UnreadableWeightsError, find_state_dict, read_content
from dynrcnn_ray.models.weights import WeightsError

_CONFIG, _NAMES, _IDS = "config", "class_names", "category_ids"


class DetectorFile(NamedTuple):
    """What the file holds.

    Attributes:
        config: a trial's, of which only the model and the size of its input count.
        state: its state_dict.
        category_names: name of each category by its id; labels follow the ascending ids, from 1.
    """

    config: TrialConfig
    state: dict[str, Tensor]
    category_names: dict[int, str]


def detector_file(
    config: TrialConfig, state: dict[str, Tensor], class_names: Sequence[str], category_ids: Sequence[int]
) -> bytes:
    """The file's content.

    Args:
        config: the trial. Where its data and the weights lay that it began with is not told.
        state: the trained state_dict.
        class_names: name of each class, in the order of the labels.
        category_ids: COCO category id of each class.
    """
    told = TrialConfig(
        scale=config.scale,
        data=DataConfig(short_side=config.data.short_side, long_side=config.data.long_side),
        model=dataclasses.replace(config.model, weights="none", detector_weights="", module="", options=()),
    )
    content = {"model": state, _NAMES: list(class_names), _IDS: list(category_ids), _CONFIG: to_yaml(told)}
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def read_detector_file(file: Path) -> DetectorFile:
    """Read what `detector_file` made. Nothing in the file is executed.

    Raises:
        WeightsError: it is no such file.
    """
    where = repr(str(file))
    try:
        content = read_content(file)
        state, _ = find_state_dict(content)
    except UnreadableWeightsError as error:
        raise WeightsError(f"{where} {error}") from None
    if not isinstance(text := content.get(_CONFIG), str):
        raise WeightsError(
            f"{where} does not say how its detector is built; give a file that `export --format torchvision` of this "
            "release wrote"
        )
    try:
        config = from_yaml(text)
    except ConfigError as error:
        raise WeightsError(f"{where} is of another release: {error}; export it with this one") from None
    return DetectorFile(config, state, _category_names(content, where))


def _category_names(content: dict[str, Any], where: str) -> dict[int, str]:
    names: Any = content.get(_NAMES)
    ids: Any = content.get(_IDS)
    is_whole = isinstance(names, list) and isinstance(ids, list) and len(names) == len(ids) > 0
    if not is_whole or ids != sorted(set(ids)) or not all(isinstance(name, str) for name in names):
        raise WeightsError(
            f"{where}: its {_NAMES} and {_IDS} must be as many names and ascending numbers; export it again"
        )
    return dict(zip(ids, names, strict=True))
