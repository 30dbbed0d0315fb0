"""The same training step and the same inference by another library's Faster R-CNN, where that is installed.

A peer gets the tensors that our model gets, of the network's own size: neither side reads or resizes an image. What a
peer is made of is its own: its operators, its assignment and sampling, its losses.
"""

import importlib
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.paired import paired
from benchmarks.schema import Row, compared_row
from benchmarks.workbench import Workbench, preload, resting_training, step_of, train_split
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.data.loader import Batch
from dynrcnn_ray.training.loop import to_device

PEERS = {"detectron2": "detectron2", "mmdetection": "mmdet"}
"""Each peer's module."""
_NUM_BATCHES = 4
_BYTE = 255


class Peer(NamedTuple):
    """Another library's detector.

    Attributes:
        model: in training mode, on the CPU.
        losses: of a batch, its images with values of 0 to 1; to be summed.
        detect: on `[3, height, width]` images with values of 0 to 1.
        release: the library and its version.
        unequal: what is not the same as in our model.
    """

    model: nn.Module
    losses: Callable[[Batch], list[Tensor]]
    detect: Callable[[list[Tensor]], object]
    release: str
    unequal: str


def require_peer(name: str) -> None:
    """Refuse a peer that is not installed.

    Raises:
        ConfigError: its module cannot be imported.
    """
    try:
        importlib.import_module(PEERS[name])
    except ImportError as error:
        raise ConfigError(f"--against: {name} cannot be imported ({error}); install it for this Python") from None


def measure_against(name: str, build: Callable[[TrialConfig, int], Peer]) -> Callable[[Workbench, int], Iterator[Row]]:
    """A benchmark of ResNet-50-FPN against a peer: a training step on one and two threads, one image's detection.

    Args:
        name: the peer's.
        build: makes it, for a trial and a number of classes without the background.
    """

    def measure(bench: Workbench, rounds: int) -> Iterator[Row]:
        config = bench.resnet
        dataset = train_split(config)
        batches = preload(config, dataset, _NUM_BATCHES)
        of_peer = [(to_device(images, torch.device("cpu")), targets) for images, targets in batches]
        state = resting_training(config, bench.worker)
        peer = build(config, len(dataset.class_names))
        for threads in (1, 2):
            torch.set_num_threads(threads)
            ours = step_of(state.model.train(), state.optimizer, config, after=state.dynamic.end_step)
            yield compared_row(
                f"against_{name}.training_{threads}",
                f"{name}'s training step, ResNet-50, {threads} threads",
                "ours, dynamic training on",
                paired(_in_turn(_peer_step(peer), of_peer), _in_turn(ours, batches), rounds=rounds, warm_up=1),
                "CPU seconds" if threads == 1 else "seconds",
                note=f"{peer.release}; {config.train.global_batch} images a step; not equal: {peer.unequal}",
            )
        torch.set_num_threads(1)
        images = [[image] for batch in of_peer for image in batch[0]]
        model = state.model.eval()
        peer.model.eval()
        with torch.inference_mode():
            result = paired(_in_turn(peer.detect, images), _in_turn(model, images), rounds=rounds, warm_up=1)
        yield compared_row(
            f"against_{name}.inference",
            f"{name}'s detection of one image, ResNet-50, 1 thread",
            "ours",
            result,
            "CPU seconds",
            note=f"{peer.release}; untrained models; not equal: {peer.unequal}",
        )

    return measure


def _peer_step(peer: Peer) -> Callable[[Batch], None]:
    trained = [parameter for parameter in peer.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.0, momentum=0.9, weight_decay=1e-4)

    def step(batch: Batch) -> None:
        losses = peer.losses(batch)
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()

    peer.model.train()
    return step


def _in_turn(run: Callable[[Any], object], inputs: list[Any]) -> Callable[[], float]:
    """Seconds of one call after the other: of this process's CPU with one thread, of the clock with several."""
    each = itertools.cycle(inputs)
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter

    def measure() -> float:
        given = next(each)
        started = clock()
        run(given)
        return clock() - started

    return measure


def build_detectron2(config: TrialConfig, num_classes: int) -> Peer:
    """Detectron2's Faster R-CNN of its model zoo, with this trial's sizes."""
    zoo = importlib.import_module("detectron2.model_zoo")
    modeling = importlib.import_module("detectron2.modeling")
    structures = importlib.import_module("detectron2.structures")
    events = importlib.import_module("detectron2.utils.events")
    settings = zoo.get_config("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml")
    settings.MODEL.DEVICE, settings.MODEL.WEIGHTS = "cpu", ""
    settings.MODEL.RESNETS.NORM = "GN" if config.model.norm == "group_norm" else "FrozenBN"
    settings.MODEL.RESNETS.STRIDE_IN_1X1 = config.model.stride_in_1x1
    settings.MODEL.ROI_HEADS.NUM_CLASSES = num_classes
    settings.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = config.model.rois_per_image
    settings.MODEL.RPN.NMS_THRESH = config.model.rpn_nms_iou
    model = modeling.build_model(settings).train()

    def inputs(batch: Batch) -> list[dict[str, Any]]:
        found = []
        for image, target in zip(*batch, strict=True):
            size = image.shape[-2:]
            instances = structures.Instances(size)
            instances.gt_boxes = structures.Boxes(target["boxes"])
            instances.gt_classes = target["labels"] - 1
            found.append({"image": image * _BYTE, "height": size[0], "width": size[1], "instances": instances})
        return found

    def losses(batch: Batch) -> list[Tensor]:
        # In training its model writes down what it assigned, and wants a place for it.
        with events.EventStorage():
            return list(model(inputs(batch)).values())

    return Peer(
        model,
        losses=losses,
        detect=lambda images: model([{"image": image * _BYTE} for image in images]),
        release=f"Detectron2 {importlib.import_module('detectron2').__version__}",
        unequal="its own assignment, sampling and losses; nothing is recorded",
    )


def build_mmdetection(config: TrialConfig, num_classes: int) -> Peer:
    """MMDetection's own Dynamic R-CNN of its model zoo, with this trial's sizes."""
    registry = importlib.import_module("mmdet.registry")
    structures = importlib.import_module("mmdet.structures")
    data = importlib.import_module("mmengine.structures")
    path = "mmdet::dynamic_rcnn/dynamic-rcnn_r50_fpn_1x_coco.py"
    settings = importlib.import_module("mmengine.hub").get_config(path).model
    settings.backbone.init_cfg = None
    if config.model.norm == "group_norm":
        settings.backbone.norm_cfg = {"type": "GN", "num_groups": 32}
    settings.roi_head.bbox_head.num_classes = num_classes
    settings.train_cfg.rcnn.sampler.num = config.model.rois_per_image
    importlib.import_module("mmdet.utils").register_all_modules(init_default_scope=True)
    model = registry.MODELS.build(settings).train()

    def inputs(images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> dict[str, Any]:
        samples = []
        for index, image in enumerate(images):
            size = tuple(image.shape[-2:])
            sample = structures.DetDataSample()
            sample.set_metainfo({"img_shape": size, "ori_shape": size, "scale_factor": (1.0, 1.0)})
            if targets is not None:
                truth = targets[index]
                sample.gt_instances = data.InstanceData(bboxes=truth["boxes"], labels=truth["labels"] - 1)
                sample.ignored_instances = data.InstanceData(bboxes=torch.empty(0, 4), labels=torch.empty(0).long())
            samples.append(sample)
        given = {"inputs": [image * _BYTE for image in images], "data_samples": samples}
        return model.data_preprocessor(given, training=targets is not None)

    def losses(batch: Batch) -> list[Tensor]:
        found = model(**inputs(*batch), mode="loss")
        terms = [loss if isinstance(loss, list) else [loss] for name, loss in found.items() if "loss" in name]
        return [term for of_name in terms for term in of_name]

    return Peer(
        model,
        losses=losses,
        detect=lambda images: model(**inputs(images), mode="predict"),
        release=f"MMDetection {importlib.import_module('mmdet').__version__}",
        unequal="its own assignment, sampling and losses; its own Dynamic R-CNN, each worker for itself",
    )


BUILDERS = {"detectron2": build_detectron2, "mmdetection": build_mmdetection}
"""What makes each peer."""
