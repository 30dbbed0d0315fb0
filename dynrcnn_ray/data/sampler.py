"""Which images each training step sees: a function of the seed and the step alone.

So a resumed run replays nothing, and workers agree on the order without talking: each takes its shards.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from dynrcnn_ray.config.shares import images_of_shard
from dynrcnn_ray.data.coco import Sample

_ORDER_STREAM = 0
_AUGMENTATION_STREAM = 1


class TrainSampler(Sampler[list[Sample]]):
    """Batches of one worker, for a fixed number of steps: in each step a batch for each of its shards, in order.

    A shard is a slice of the global batch, so that how shards lie on workers does not change what a step learns from.
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
        shards: int = 1,
        own_shards: range | None = None,
    ) -> None:
        """Set up the order.

        Args:
            sizes: Width and height of each image, `[num_images, 2]`.
            global_batch: Images per step over all shards; at least one for each.
            total_steps: The step after the last one.
            seed: Seed of the order and of the flips.
            flip_probability: Chance of a horizontal flip.
            short_sides: Each image draws one of these as its short side, in multi-scale training.
            photometric: Each image draws the seed of a distortion of its colours.
            images: Positions of the images to train on, at least one. Default: all.
            start_step: The first step to yield, after a resume.
            shards: Parts of a global batch.
            own_shards: Those of this worker. Default: all.
        """
        assert global_batch >= shards, f"{shards} shards for a global batch of {global_batch}"
        self._images = np.arange(len(sizes)) if images is None else images
        self._landscape = sizes[self._images, 0] > sizes[self._images, 1]
        self._batch_size = global_batch
        self._total_steps = total_steps
        self._seed = seed
        self._flip_probability = flip_probability
        self._photometric = photometric
        self._short_sides = np.array(short_sides or (0,), dtype=np.int64)
        self._start_step = start_step
        own_shards = range(shards) if own_shards is None else own_shards
        self._shares = [images_of_shard(global_batch, shards, shard) for shard in own_shards]
        self._steps_per_epoch = max(1, len(self._images) // global_batch)
        self._cached_epoch = -1
        self._cached_batches = np.empty((0, global_batch), dtype=np.int64)

    def __len__(self) -> int:
        """Batches that are left."""
        return max(0, self._total_steps - self._start_step) * len(self._shares)

    def __iter__(self) -> Iterator[list[Sample]]:
        """Yield the batches of every step that is left."""
        for step in range(self._start_step, self._total_steps):
            images = self.global_batch(step)
            yield from (images[share] for share in self._shares)

    def global_batch(self, step: int) -> list[Sample]:
        """The images and their augmentation in a step over all shards, in their order."""
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
