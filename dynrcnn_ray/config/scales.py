"""The sizes at which every experiment runs. A scale is a base `TrialConfig`; the experiments vary it."""

import dataclasses
from typing import Literal, get_args

from dynrcnn_ray.config.sections import DataConfig, DynamicConfig, ModelConfig, RunConfig, ShapesConfig, TrainConfig
from dynrcnn_ray.config.trial_config import TrialConfig

Scale = Literal["smoke", "mini", "photos", "coco"]
SCALES: tuple[Scale, ...] = get_args(Scale)

_TINY_MODEL = ModelConfig(
    backbone="tiny",
    norm="group_norm",
    weights="none",
    trainable_layers=5,
    fpn_channels=64,
    head_channels=256,
    anchor_sizes=(16, 32, 64, 128, 256),
    rpn_samples=64,
    rpn_pre_nms_train=500,
    rpn_pre_nms_test=250,
    rpn_post_nms=250,
    rois_per_image=128,
)

_SMOKE = TrialConfig(
    scale="smoke",
    data=DataConfig(short_side=64, long_side=64, shapes=ShapesConfig(train_images=16, val_images=8, image_size=64)),
    model=_TINY_MODEL,
    dynamic=DynamicConfig(update_interval=4),
    train=TrainConfig(steps=10, global_batch=4, shards=2, reference_batch=4, learning_rate=0.01, warmup_steps=2),
    run=RunConfig(log_every=2, checkpoint_every=5),
)

_MINI = TrialConfig(
    scale="mini",
    data=DataConfig(short_side=128, long_side=128),
    # From random weights 600 steps are all early training; the paper starts from ImageNet's.
    model=dataclasses.replace(_TINY_MODEL, weights="shapes"),
    dynamic=DynamicConfig(update_interval=20),
    train=TrainConfig(steps=600, global_batch=8, shards=2, reference_batch=8, warmup_steps=50),
    run=RunConfig(num_workers=2, log_every=20, checkpoint_every=200),
)

_PHOTOS = TrialConfig(
    scale="photos",
    # Somebody's own: `check-data` proposes sizes and steps by its images.
    data=DataConfig(root="data/photos", short_side=320, long_side=544),
    model=ModelConfig(detector_weights="coco"),
    dynamic=DynamicConfig(update_interval=20),
    # The paper's learning rate, for a quarter of its batch.
    train=TrainConfig(steps=1000, global_batch=4, shards=2, reference_batch=4, learning_rate=0.005, warmup_steps=100),
    run=RunConfig(num_workers=2, checkpoint_every=200),
)

_COCO = TrialConfig(
    scale="coco",
    data=DataConfig(root="data/coco", train_split="train2017", val_split="val2017"),
    run=RunConfig(num_workers=8, cpus_per_worker=4, gpu=1, loader_workers=4, checkpoint_every=2000),
)

_BASES: dict[Scale, TrialConfig] = {"smoke": _SMOKE, "mini": _MINI, "photos": _PHOTOS, "coco": _COCO}


def base_config(scale: Scale) -> TrialConfig:
    """The configuration that `--scale` starts from: Dynamic R-CNN with both parts on."""
    return _BASES[scale]
