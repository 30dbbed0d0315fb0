"""Which images each training step sees: a function of the seed and the step alone.

So a resumed run replays nothing, and workers agree on the order without talking: each takes its slice.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from dynrcnn_ray.config.shares import share_of_worker
from dynrcnn_ray.data.coco import Sample

_ORDER_STREAM = 0
_AUGMENTATION_STREAM = 1


class TrainSampler(Sampler[list[Sample]]):
    """Batches of one rank, for a fixed number of steps.

    Rank `r` of `world_size` gets the `r`-th slice of the global batch, so the split over workers does not change what a
    step learns from.
    """

    def __init__(
        self,
        sizes: NDArray[np.int64],
        *,
        global_batch: int,
        total_steps: int,
        seed: int,
        flip_probability: float,
        short_sides: Sequence[int] = (),
        photometric: bool = False,
        images: NDArray[np.int64] | None = None,
        start_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Set up the order.

        Args:
            sizes: Width and height of each image, `[num_images, 2]`.
            global_batch: Images per step over all ranks; at least one for each.
            total_steps: The step after the last one.
            seed: Seed of the order and of the flips.
            flip_probability: Chance of a horizontal flip.
            short_sides: Each image draws one of these as its short side, in multi-scale training.
            photometric: Each image draws the seed of a distortion of its colours.
            images: Positions of the images to train on, at least one. Default: all.
            start_step: The first step to yield, after a resume.
            rank: This worker's rank.
            world_size: Number of workers.
        """
        assert global_batch >= world_size, f"{world_size} ranks for a global batch of {global_batch}"
        self._images = np.arange(len(sizes)) if images is None else images
        self._landscape = sizes[self._images, 0] > sizes[self._images, 1]
        self._batch_size = global_batch
        self._total_steps = total_steps
        self._seed = seed
        self._flip_probability = flip_probability
        self._photometric = photometric
        self._short_sides = np.array(short_sides or (0,), dtype=np.int64)
        self._start_step = start_step
        self._share = share_of_worker(global_batch, rank, world_size)
        self._steps_per_epoch = max(1, len(self._images) // global_batch)
        self._cached_epoch = -1
        self._cached_batches = np.empty((0, global_batch), dtype=np.int64)

    def __len__(self) -> int:
        """Steps that are left."""
        return max(0, self._total_steps - self._start_step)

    def __iter__(self) -> Iterator[list[Sample]]:
        """Yield this rank's share of every step that is left."""
        for step in range(self._start_step, self._total_steps):
            yield self.global_batch(step)[self._share]

    def global_batch(self, step: int) -> list[Sample]:
        """The images and their augmentation in a step over all ranks, in rank order."""
        epoch, batch = divmod(step, self._steps_per_epoch)
        if epoch != self._cached_epoch:
            self._cached_epoch, self._cached_batches = epoch, self._epoch_batches(epoch)
        rng = np.random.default_rng([self._seed, _AUGMENTATION_STREAM, step])
        flips = rng.random(self._batch_size) < self._flip_probability
        short_sides = rng.choice(self._short_sides, self._batch_size)
        images = self._cached_batches[batch]
        columns = [images.tolist(), flips.tolist(), short_sides.tolist()]
        if self._photometric:
            columns.append(rng.integers(2**31, size=self._batch_size).tolist())
        return [Sample(*values) for values in zip(*columns, strict=True)]

    def _epoch_batches(self, epoch: int) -> NDArray[np.int64]:
        """All global batches of an epoch, `[steps_per_epoch, global_batch]`: batches of one orientation pad little."""
        rng = np.random.default_rng([self._seed, _ORDER_STREAM, epoch])
        order = rng.permutation(len(self._landscape))
        if len(order) < self._batch_size:
            return self._images[np.resize(order, (1, self._batch_size))]
        # What an epoch leaves out is any image's turn; of the leftovers alone, a small group would never be seen.
        order = order[: self._steps_per_epoch * self._batch_size]
        groups = [order[self._landscape[order]], order[~self._landscape[order]]]
        whole = [len(group) // self._batch_size * self._batch_size for group in groups]
        leftovers = rng.permutation(np.concatenate([group[end:] for group, end in zip(groups, whole, strict=True)]))
        in_groups = np.concatenate([group[:end] for group, end in zip(groups, whole, strict=True)])
        used = np.concatenate([in_groups, leftovers])
        return self._images[rng.permutation(used.reshape(-1, self._batch_size), axis=0)]
