"""The training and testing protocols that Tables 2 and 9 combine: schedules, multi-scale, Soft-NMS.

Sizes and steps follow the scale's own: at scale `coco` they are the paper's, to the pixel.
"""

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.experiment.experiment import with_fields

_TRAIN_SHARES = (0.5, 0.75, 1.0, 1.25, 1.5)
_TRAIN_LONG_SHARE = 1400 / 800
_TEST_SHARES = (1.0, 1.25, 1.5, 1.75, 2.0)
_TEST_LONG_SHARE = 2000 / 800
_STEPS_FACTOR = {"1x": 1, "2x": 2, "2x+MST": 3}


def schedule(config: TrialConfig, name: str) -> TrialConfig:
    """The schedule `1x`, `2x` or `2x+MST`: one, two and three times the scale's steps (90k, 180k, 270k on COCO).

    MST is multi-scale training: each image's short side is drawn from a half to one and a half of the scale's own.
    """
    config = with_fields(config, "train", steps=config.train.steps * _STEPS_FACTOR[name])
    if name != "2x+MST":
        return config
    short = config.data.short_side
    return with_fields(
        config,
        "data",
        train_short_sides=tuple(round(short * share) for share in _TRAIN_SHARES),
        train_long_side=round(short * _TRAIN_LONG_SHARE),
    )


def multi_scale_testing(config: TrialConfig) -> TrialConfig:
    """Test at the scale's own size and at one to two times its short side, each with its mirror image."""
    short = config.data.short_side
    return with_fields(
        config,
        "test",
        multi_scale=True,
        multi_scale_short_sides=tuple(round(short * share) for share in _TEST_SHARES),
        multi_scale_long_side=round(short * _TEST_LONG_SHARE),
    )


def deformable(config: TrialConfig) -> TrialConfig:
    """Deformable convolutions in c3 to c5."""
    return with_fields(config, "model", deformable=True)


def soft_nms(config: TrialConfig) -> TrialConfig:
    """Linear Soft-NMS."""
    return with_fields(config, "test", soft_nms="linear")


def static(config: TrialConfig) -> TrialConfig:
    """The baseline: neither DLA nor DSL."""
    return with_fields(config, "dynamic", dla=False, dsl=False)


def dynamic(config: TrialConfig) -> TrialConfig:
    """Dynamic R-CNN: DLA and DSL."""
    return with_fields(config, "dynamic", dla=True, dsl=True)
