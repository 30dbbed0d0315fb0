"""Detections and average precision of a whole split, divided over the workers by shards."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as mask_utils
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.data.loader import eval_loader
from dynrcnn_ray.evaluation.coco_ap import Detections, evaluate_against
from dynrcnn_ray.evaluation.ground_truth import read_ground_truth
from dynrcnn_ray.models.detector import Detector
from dynrcnn_ray.models.multi_scale import detect_multi_scale
from dynrcnn_ray.training.collectives import Worker, gather_on_first
from dynrcnn_ray.training.loop import autocast, to_device

_MASK_THRESHOLD = 0.5
_MOST_THREADS = 8
"""Of an evaluation: each looks at all detections once before it takes those of its categories."""


def detect_all(
    config: TrialConfig,
    model: Detector,
    dataset: CocoDataset,
    worker: Worker,
    *,
    on_tenth: Callable[[int], None] = lambda tenth: None,
) -> list[Detections]:
    """Detect on a whole split, each worker on the images of its shards.

    Args:
        config: the trial.
        model: its detector.
        dataset: the split.
        worker: this process.
        on_tenth: called by every worker equally often, with 1 to 10, when it has done so many tenths of its images.

    Returns:
        On the first worker, every image's detections once, in the data set's order; on the others nothing.
    """
    of_workers = gather_on_first(detect(config, model, dataset, worker, on_tenth=on_tenth), worker)
    position = {image_id: index for index, image_id in enumerate(dataset.image_ids)}
    return sorted(
        (entry for of_worker in of_workers for entry in of_worker), key=lambda entry: position[entry.image_id]
    )


def detection_columns(detections: Sequence[Detections]) -> dict[str, np.ndarray]:
    """The detections of many images as one array a column, as in `schemas.DETECTIONS`."""
    counts = [len(entry.scores) for entry in detections]
    columns = {
        "image_id": np.repeat(np.array([entry.image_id for entry in detections], dtype=np.int64), counts),
        "category_id": np.concatenate([entry.category_ids for entry in detections]).astype(np.int64),
        "score": np.concatenate([entry.scores for entry in detections]),
    }
    corners = np.concatenate([entry.boxes for entry in detections]).reshape(-1, 4)
    return columns | dict(zip(("x1", "y1", "x2", "y2"), corners.T, strict=True))


def metrics_of(config: TrialConfig, dataset: CocoDataset, detections: Sequence[Detections]) -> dict[str, float | None]:
    """COCO average precision in percent of boxes and, where the model has them, of masks (`segm_AP` and so on)."""
    truth = read_ground_truth(dataset.annotation_file)
    threads = min(_MOST_THREADS, torch.get_num_threads())
    metrics = evaluate_against(truth, detections, threads=threads)
    if config.model.has_masks:
        of_masks = evaluate_against(truth, detections, kind="segm", threads=threads)
        metrics |= {f"segm_{name}": value for name, value in of_masks.items()}
    return metrics


@torch.inference_mode()
def detect(
    config: TrialConfig,
    model: Detector,
    dataset: CocoDataset,
    worker: Worker,
    *,
    on_tenth: Callable[[int], None] = lambda tenth: None,
) -> list[Detections]:
    """Detect on the images of this worker's shards of a split; the arguments are those of `detect_all`."""
    shards, own_shards = config.train.shards, worker.shards(config)
    images_of_worker = sum(len(range(shard, len(dataset), shards)) for shard in own_shards)
    tenths = 0
    loader = eval_loader(
        dataset,
        batch_size=config.train.global_batch // shards,
        loader_workers=config.run.loader_workers,
        shards=shards,
        own_shards=own_shards,
    )
    model.eval()
    detections: list[Detections] = []
    for images, targets in loader:
        outputs = outputs_of(config, model, images, worker.device)
        detections += [
            detections_of(output, dataset.category_ids, dataset.image_ids[target["image_index"]])
            for output, target in zip(outputs, targets, strict=True)
        ]
        while tenths < 10 * len(detections) // images_of_worker:
            tenths += 1
            on_tenth(tenths)
    # A worker without an image has nothing to count.
    for tenth in range(tenths + 1, 11):
        on_tenth(tenth)
    return detections


def outputs_of(
    config: TrialConfig, model: Detector, images: list[Tensor], device: torch.device
) -> list[dict[str, Tensor]]:
    """What a model in testing detects by the trial's protocol, on the device.

    Args:
        config: the trial.
        model: its detector, in evaluation mode.
        images: uint8 `[3, H, W]` each, RGB.
        device: where the model is.
    """
    on_device = to_device(images, device)
    with autocast(config, device):
        if not config.test.multi_scale:
            return model(on_device)
        assert isinstance(model, FasterRCNN)
        return detect_multi_scale(model, on_device, config)


def detections_of(output: dict[str, Tensor], category_ids: Sequence[int], image_id: int) -> Detections:
    """A model's output on one image, on the host.

    Args:
        output: of the model.
        category_ids: id of each class, in the order of the labels.
        image_id: the image's.
    """
    masks: Any = None
    if "masks" in output:
        binary = (output["masks"][:, 0] >= _MASK_THRESHOLD).to(torch.uint8).cpu().numpy()
        masks = mask_utils.encode(np.asfortranarray(binary.transpose(1, 2, 0)))
    return Detections(
        image_id=image_id,
        boxes=output["boxes"].float().cpu().numpy(),
        scores=output["scores"].float().cpu().numpy(),
        category_ids=np.asarray(category_ids)[output["labels"].cpu().numpy() - 1],
        masks=masks,
    )
