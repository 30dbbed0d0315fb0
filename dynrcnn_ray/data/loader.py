"""PyTorch loaders over a COCO-format data set, for training and for evaluation."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dynrcnn_ray.data.coco import CocoDataset, Sample, Target
from dynrcnn_ray.data.sampler import TrainSampler

Batch = tuple[list[Tensor], list[Target]]
"""What both loaders yield: images, uint8 `[3, H, W]` of any sizes, and their targets."""


def train_loader(dataset: CocoDataset, sampler: TrainSampler, *, loader_workers: int) -> DataLoader[Any]:
    """Batches in the sampler's order: one pass is the whole training.

    Args:
        dataset: The training split.
        sampler: Built from `dataset.sizes`; decides the order, the flips and this worker's shards.
        loader_workers: Processes that load images; 0 loads them in this one.

    Returns:
        A loader of `Batch`es.
    """
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=loader_workers,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_use_one_thread,
    )


def eval_loader(
    dataset: CocoDataset, *, batch_size: int, loader_workers: int, shards: int = 1, own_shards: range | None = None
) -> DataLoader[Any]:
    """Every image of a worker's shards once and unflipped. Shard `i` has the images `i::shards`, in order.

    Shards may differ by one image: nothing is repeated to make them equal, as that would change the AP. No batch has
    images of two: what stands beside an image in a batch decides its padding, and so its last bits.

    Args:
        dataset: The split to evaluate.
        batch_size: Images per batch; a shard's last may be smaller.
        loader_workers: Processes that load images; 0 loads them in this one.
        shards: Parts of the split.
        own_shards: Those of this worker. Default: all.

    Returns:
        A loader of `Batch`es.
    """
    batches = [
        [Sample(index, flip=False) for index in images[first : first + batch_size]]
        for shard in (range(shards) if own_shards is None else own_shards)
        for images in [range(shard, len(dataset), shards)]
        for first in range(0, len(images), batch_size)
    ]
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=loader_workers,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_use_one_thread,
    )


def _collate(items: list[tuple[Tensor, Target]]) -> Batch:
    return [image for image, _ in items], [target for _, target in items]


def _use_one_thread(_worker: int) -> None:
    # The loaders share the cores with the training worker, which needs them more.
    torch.set_num_threads(1)
