"""Check a data set before anything is trained on it: every annotation, and every pixel of every image.

Command:  dynrcnn check-data --data.root DIR [--data.train-split train] [--data.val-split val]
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from dynrcnn_ray.config.scales import Scale, base_config
from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.config.validation import validate
from dynrcnn_ray.options.command import Call, Command
from dynrcnn_ray.options.parsing import parse_first
from dynrcnn_ray.options.shared import ScaleOption


@dataclass(frozen=True)
class CheckOptions:
    """Options of the command `check-data`. The data section starts from the scale's own."""

    scale: Scale = "mini"
    """The scale whose data and ranks K_I and K_beta are meant."""
    masks: bool = False
    """Also demand a mask for every object, as Mask R-CNN needs."""
    data: DataConfig = field(default_factory=DataConfig)


def _at_scale(arguments: Sequence[str]) -> tuple[CheckOptions, Sequence[str]]:
    first, rest = parse_first(ScaleOption, arguments)
    return CheckOptions(scale=first.scale, data=base_config(first.scale).data), rest


def _check(options: CheckOptions, _call: Call) -> None:
    validate(dataclasses.replace(base_config(options.scale), data=options.data))


COMMAND = Command(
    name="check-data",
    group="Data",
    title="check a data set before anything is trained on it",
    description="Check a data set before anything is trained on it: every annotation, and every pixel of every image.",
    options=CheckOptions,
    body="dynrcnn_ray.data.check.check_data:run_check_data",
    check=_check,
    defaults=_at_scale,
)
