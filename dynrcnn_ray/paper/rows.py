"""What the paper's tables share: rows that set fields of `dynamic`, and backbones by the paper's names."""

import dataclasses
from collections.abc import Mapping, Sequence

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.experiment.experiment import METRICS_BY_IOU, Row, with_fields

PAPER_BASELINE = (37.0, 58.0, 53.5, 46.0, 32.6, 9.7)
"""The paper's baseline in Tables 3 to 6, in the order of `METRICS_BY_IOU`."""


def dynamic_row(
    base: TrialConfig,
    labels: Mapping[str, str],
    numbers: Sequence[float],
    baseline: int = 0,
    **fields: bool | int | float,
) -> Row:
    """A row of Tables 1 and 3 to 6: the base with other fields of its `dynamic` section.

    Args:
        base: the configuration that the command line gives.
        labels: the cells after the backbone's.
        numbers: the paper's, in the order of `METRICS_BY_IOU`; none for a setting that the paper does not have.
        baseline: index of the row that differences refer to.
        **fields: what the row sets.
    """
    return Row(
        labels={"Backbone": backbone_name(base), **labels},
        config=dataclasses.replace(base, dynamic=dataclasses.replace(base.dynamic, **fields)),  # pyright: ignore[reportArgumentType]
        reported=dict(zip(METRICS_BY_IOU, numbers, strict=True)) if numbers else {},
        baseline=baseline,
    )


def deeper(config: TrialConfig) -> TrialConfig:
    """The same with the scale's deeper backbone: ResNet-101 for ResNet-50, `small` for `tiny`.

    Raises:
        ConfigError: the backbone is neither.
    """
    backbones = {"resnet50": "resnet101", "tiny": "small"}
    if config.model.backbone not in backbones:
        raise ConfigError(
            f"model.backbone: {config.model.backbone!r} has no deeper one here; allowed: {', '.join(backbones)}"
        )
    return with_fields(config, "model", backbone=backbones[config.model.backbone])


def backbone_name(config: TrialConfig) -> str:
    """The backbone as the paper's tables write it: ResNet-50-FPN."""
    name = config.model.backbone
    return f"{name} ResNet-FPN" if name in ("tiny", "small") else f"ResNet-{name.removeprefix('resnet')}-FPN"
