"""Training images per second against torchvision's reference loop.

The loop is written from the recipe of torchvision's `references/detection` (`train.py`, `engine.py`, `coco_utils.py`,
`group_by_aspect_ratio.py`): `CocoDetection` through `wrap_dataset_for_transforms_v2`, batches by aspect ratio, the
losses brought to the host and checked each step. Its detector is torchvision's own throughout, from the same backbone
and settings, weights drawn from the same seed.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, RandomSampler, Sampler
from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.transforms import v2

from benchmarks.paired import paired, timed
from benchmarks.schema import Must, Row, at_least, compared_row
from benchmarks.workbench import Workbench, train_split, with_steps
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.data.layout import find_split
from dynrcnn_ray.models.backbones import build_backbone
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.loop import train
from dynrcnn_ray.training.state import build_training_state

_ASPECT_RATIO_GROUPS = 3


def measure_reference_loop(bench: Workbench, rounds: int) -> Iterator[Row]:
    """Our loop against the reference's, at scale mini and with ResNet-50-FPN."""
    yield _row("mini", bench.mini, 20, rounds, at_least(1.3))
    yield _row("ResNet-50 320 px", bench.resnet, 2, rounds, at_least(1.0))


def _row(label: str, config: TrialConfig, steps: int, rounds: int, must: Must) -> Row:
    torch.set_num_threads(config.run.threads_per_worker)
    images = steps * config.train.global_batch
    ours, reference = timed(our_loop(config, steps)), timed(reference_loop(config, steps))
    return compared_row(
        f"reference_loop.{label.split()[0].lower()}",
        f"training from files, {label}",
        "torchvision's reference loop: same model, data and batch",
        paired(lambda: images / ours(), lambda: images / reference(), rounds=rounds),
        "images per second",
        must=must,
        note=f"a round is {steps} steps of {config.train.global_batch} images on {config.run.cpus_per_worker:g} "
        "threads; both read their images themselves",
    )


def our_loop(config: TrialConfig, steps: int) -> Callable[[], None]:
    """So many more steps of the engine's training at each call."""
    dataset = train_split(config)
    state = build_training_state(Trial(config), len(dataset.class_names), Worker())

    def run() -> None:
        longer = with_steps(config, state.step + steps, log_every=steps)
        for _ in train(longer, state, dataset):
            pass

    return run


def reference_loop(config: TrialConfig, steps: int) -> Callable[[], None]:
    """So many more steps of the reference's `train_one_epoch` at each call."""
    dataset = train_split(config)
    torch.manual_seed(config.seed)
    model = stock_detector(config, len(dataset.class_names)).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    settings = config.train
    optimizer = torch.optim.SGD(
        trained, lr=settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / 1000, total_iters=1000)
    batches = _endless(_reference_loader(config, dataset))

    def run() -> None:
        for images, targets in itertools.islice(batches, steps):
            losses = model(list(images), list(targets))
            total = torch.stack(list(losses.values())).sum()
            if not math.isfinite(total.item()):
                raise FloatingPointError(f"the reference loop's loss is not finite: {losses}")
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            warm_up.step()
            # The reference's metric logger reads every term.
            _ = [loss.item() for loss in losses.values()]

    return run


def stock_detector(config: TrialConfig, num_classes: int) -> FasterRCNN:
    """Torchvision's Faster R-CNN with nothing of ours but the backbone and the settings."""
    settings = config.model
    sizes = settings.anchor_sizes
    backbone = build_backbone(settings)
    return FasterRCNN(
        backbone,
        min_size=config.data.short_side,
        max_size=config.data.long_side,
        rpn_anchor_generator=AnchorGenerator(tuple((size,) for size in sizes), ((0.5, 1.0, 2.0),) * len(sizes)),
        rpn_pre_nms_top_n_train=settings.rpn_pre_nms_train,
        rpn_pre_nms_top_n_test=settings.rpn_pre_nms_test,
        rpn_post_nms_top_n_train=settings.rpn_post_nms,
        rpn_post_nms_top_n_test=settings.rpn_post_nms,
        rpn_nms_thresh=settings.rpn_nms_iou,
        rpn_batch_size_per_image=settings.rpn_samples,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2, canonical_scale=7 * sizes[0]),
        box_head=TwoMLPHead(backbone.out_channels * 49, settings.head_channels),
        box_predictor=FastRCNNPredictor(settings.head_channels, num_classes + 1),
        box_score_thresh=settings.score_threshold,
        box_nms_thresh=settings.nms_iou,
        box_detections_per_img=settings.detections_per_image,
        box_fg_iou_thresh=config.dynamic.fixed_iou,
        box_bg_iou_thresh=config.dynamic.fixed_iou,
        box_batch_size_per_image=settings.rois_per_image,
        box_positive_fraction=settings.positive_fraction,
    )


def _reference_loader(config: TrialConfig, dataset: CocoDataset) -> DataLoader[Any]:
    """The reference's data pipeline in its newer form, which decodes no masks that the model does not want."""
    files = find_split(config.data.root, config.data.train_split)
    images = CocoDetection(str(files.images), str(files.annotations), transforms=_transforms())
    images.ids = [image_id for image_id in images.ids if _is_usable(images, image_id)]
    wrapped: Any = wrap_dataset_for_transforms_v2(images, target_keys=["boxes", "labels", "image_id"])
    # The reference counts classes up to the largest id; the same model needs the same number of classes.
    labels = torch.zeros(max(dataset.category_ids) + 1, dtype=torch.int64)
    labels[dataset.category_ids] = torch.arange(1, len(dataset.category_ids) + 1)

    def collate(items: list[Any]) -> tuple[Any, ...]:
        for _, target in items:
            target["labels"] = labels[target["labels"]]
        return tuple(zip(*items, strict=True))

    ratios = [images.coco.imgs[image_id]["width"] / images.coco.imgs[image_id]["height"] for image_id in images.ids]
    return DataLoader(
        wrapped,
        batch_sampler=GroupedBatchSampler(ratios, config.train.global_batch),
        num_workers=config.run.loader_workers,
        collate_fn=collate,
    )


def _transforms() -> v2.Compose:
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(p=0.5),
            v2.PILToTensor(),
            v2.ToDtype(torch.float, scale=True),
            v2.ConvertBoundingBoxFormat("XYXY"),
            v2.SanitizeBoundingBoxes(),
            v2.ToPureTensor(),
        ]
    )


def _is_usable(images: CocoDetection, image_id: int) -> bool:
    """Whether an image has an object; the reference trains on no others."""
    records = images.coco.imgToAnns[image_id]
    return any(min(record["bbox"][2:]) > 1 and not record.get("iscrowd", 0) for record in records)


class GroupedBatchSampler(Sampler[list[int]]):
    """Batches of similar aspect ratio in random order, as the reference makes them."""

    def __init__(self, aspect_ratios: list[float], batch_size: int) -> None:
        """Take each image's width over height."""
        bins = 2 ** np.linspace(-1, 1, 2 * _ASPECT_RATIO_GROUPS + 1)
        self._groups = np.digitize(aspect_ratios, bins).tolist()
        self._batch_size = batch_size

    def __iter__(self) -> Iterator[list[int]]:
        """Yield a batch whenever a group has enough images; incomplete ones are left out."""
        waiting: dict[int, list[int]] = {}
        for index in RandomSampler(self._groups):
            group = waiting.setdefault(self._groups[index], [])
            group.append(index)
            if len(group) == self._batch_size:
                yield waiting.pop(self._groups[index])


def _endless(loader: DataLoader[Any]) -> Iterator[Any]:
    while True:
        yield from loader
