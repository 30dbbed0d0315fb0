"""Inference of a Dynamic R-CNN against a plain torchvision Faster R-CNN with the same weights."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from benchmarks.paired import paired, timed
from benchmarks.reference_loop import stock_detector
from benchmarks.schema import Row, at_least, compared_row
from benchmarks.workbench import Workbench
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.coco import CocoDataset, Sample
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.device import on_device
from dynrcnn_ray.training.loop import to_device
from dynrcnn_ray.training.state import build_training_state

_NUM_IMAGES = 8
_ROUNDS_OF_MINI = 4
"""For one of ResNet-50."""


def measure_inference(bench: Workbench, rounds: int) -> Iterator[Row]:
    """One image at a time, at scale mini and with ResNet-50-FPN."""
    few = bench.rounds_of_resnet(rounds, of_mini=_ROUNDS_OF_MINI)
    for label, config, count in (("mini", bench.mini, rounds), ("ResNet-50 320 px", bench.resnet, few)):
        torch.set_num_threads(config.run.threads_per_worker)
        yield _row(label, config, count, bench.worker)


@torch.inference_mode()
def _row(label: str, config: TrialConfig, rounds: int, worker: Worker) -> Row:
    # Every box is a candidate: an untrained model would find few above a threshold.
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, score_threshold=0.0))
    dataset = CocoDataset(config.data.root, config.data.val_split)
    images = [dataset[Sample(index, flip=False)][0] for index in range(min(_NUM_IMAGES, len(dataset)))]
    state = build_training_state(Trial(config), len(dataset.class_names), worker)
    stock = stock_detector(config, len(dataset.class_names))
    on_device(stock, worker.device)
    stock.load_state_dict(state.model.state_dict(), strict=True)
    dynamic, plain = state.model.eval(), stock.eval()
    assert isinstance(dynamic, FasterRCNN), "the scales train detectors of two stages"
    _check_equal(dynamic, plain, images[0], worker)
    ours, theirs = (_detector(model, images, worker) for model in (dynamic, plain))
    return compared_row(
        f"inference.{label.split()[0].lower()}",
        f"inference, Dynamic R-CNN, {label}",
        "torchvision's Faster R-CNN with the same weights",
        paired(lambda: 1 / ours(), lambda: 1 / theirs(), rounds=rounds, warm_up=3),
        "images per second",
        must=at_least(1),
        note="one image at a time; the same backbone, and the same detections within rounding",
    )


def _check_equal(dynamic: FasterRCNN, plain: FasterRCNN, image: Tensor, worker: Worker) -> None:
    (ours,), (theirs,) = (model(to_device([image], worker.device)) for model in (dynamic, plain))
    assert len(ours["scores"]), "nothing was detected: there is nothing to time"
    # Rounding may swap two boxes of nearly the same score.
    torch.testing.assert_close(ours["scores"], theirs["scores"], atol=1e-3, rtol=0)


def _detector(model: FasterRCNN, images: list[Tensor], worker: Worker) -> Callable[[], float]:
    in_turn = itertools.cycle(images)
    return timed(lambda: model(to_device([next(in_turn)], worker.device)))
