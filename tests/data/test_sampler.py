import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest

from dynrcnn_ray.data.coco import Sample
from dynrcnn_ray.data.sampler import TrainSampler

# 22 landscape, 14 portrait and 5 square images.
SIZES = np.array([(40, 30)] * 22 + [(30, 40)] * 14 + [(40, 40)] * 5)
BATCH = 4
EPOCH = len(SIZES) // BATCH


def sampler(sizes: np.ndarray = SIZES, *, seed: int = 3, **changes: Any) -> TrainSampler:
    settings: dict[str, Any] = {"global_batch": BATCH, "total_steps": 3 * EPOCH} | changes
    return TrainSampler(sizes, seed=seed, flip_probability=0.5, **settings)


def images(batches: list[list[Sample]]) -> list[int]:
    return [sample.image_index for batch in batches for sample in batch]


def test_every_image_once_an_epoch_up_to_the_dropped_remainder() -> None:
    batches = list(sampler())
    assert len(batches) == len(sampler()) == 3 * EPOCH
    seen: set[int] = set()
    for epoch in range(3):
        in_epoch = images(batches[epoch * EPOCH : (epoch + 1) * EPOCH])
        assert len(in_epoch) == len(set(in_epoch)) == EPOCH * BATCH
        seen.update(in_epoch)
    assert seen == set(range(len(SIZES)))


@pytest.mark.parametrize(("landscape", "portrait"), [(8, 3), (3, 8), (4, 1), (9, 9)])
def test_every_image_has_its_turn_however_few_share_its_orientation(landscape: int, portrait: int) -> None:
    sizes = np.array([(40, 30)] * landscape + [(30, 40)] * portrait)
    assert set(images(list(sampler(sizes, total_steps=60)))) == set(range(len(sizes)))


def test_epochs_differ_and_seeds_differ() -> None:
    batches = list(sampler())
    assert images(batches[:EPOCH]) != images(batches[EPOCH : 2 * EPOCH])
    assert images(batches) != images(list(sampler(seed=4)))
    assert batches == list(sampler())


def test_at_most_the_leftovers_are_in_mixed_batches() -> None:
    landscape = SIZES[:, 0] > SIZES[:, 1]
    for epoch in range(3):
        batches = [sampler().global_batch(step) for step in range(epoch * EPOCH, (epoch + 1) * EPOCH)]
        kinds = [{bool(landscape[sample.image_index]) for sample in batch} for batch in batches]
        assert sum(kind == {True} for kind in kinds) >= 22 // BATCH
        assert sum(kind == {False} for kind in kinds) >= 19 // BATCH
        # Shuffled: the kinds do not come in two blocks.
        assert sum(one != other for one, other in itertools.pairwise(kinds)) > 2


def test_order_depends_on_the_step_alone() -> None:
    one = sampler()
    backwards = [one.global_batch(step) for step in reversed(range(3 * EPOCH))]
    assert backwards[::-1] == list(sampler())


@pytest.mark.parametrize("start_step", [0, 1, EPOCH, EPOCH + 3, 3 * EPOCH])
def test_resume_equals_uninterrupted(start_step: int) -> None:
    resumed = sampler(start_step=start_step)
    assert list(resumed) == list(sampler())[start_step:]
    assert len(resumed) == 3 * EPOCH - start_step


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_shards_together_are_the_global_batch(shards: int) -> None:
    of_shards = [list(sampler(shards=shards, own_shards=range(shard, shard + 1))) for shard in range(shards)]
    joined = [[sample for part in parts for sample in part] for parts in zip(*of_shards, strict=True)]
    assert joined == list(sampler())
    assert {len(part) for of_shard in of_shards for part in of_shard} == {BATCH // shards}


def test_a_worker_gets_its_shards_of_a_step_one_after_the_other() -> None:
    own = sampler(shards=4, own_shards=range(1, 3), total_steps=2)
    assert len(own) == 4
    assert list(own) == [own.global_batch(step)[shard : shard + 1] for step in range(2) for shard in (1, 2)]


def test_data_set_below_one_batch_is_repeated() -> None:
    batches = list(sampler(SIZES[:3], global_batch=8, total_steps=5))
    assert [len(batch) for batch in batches] == [8] * 5
    for batch in batches:
        assert set(Counter(images([batch])).values()) == {2, 3}
    assert images(batches[:1]) != images(batches[1:2])


def test_data_set_of_one_batch_is_used_whole() -> None:
    for batch in sampler(SIZES[20:24], total_steps=3):
        assert sorted(images([batch])) == [0, 1, 2, 3]


def test_flips() -> None:
    flips = [sample.flip for batch in sampler(total_steps=500) for sample in batch]
    assert 0.45 < np.mean(flips) < 0.55
    never, always = (
        TrainSampler(SIZES, global_batch=BATCH, total_steps=9, seed=0, flip_probability=probability)
        for probability in (0.0, 1.0)
    )
    assert not any(sample.flip for batch in never for sample in batch)
    assert all(sample.flip for batch in always for sample in batch)
