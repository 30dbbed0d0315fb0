"""How a global batch is cut into shards, and how those are divided over workers."""


def shards_of_worker(shards: int, rank: int, world_size: int) -> range:
    """The neighbouring shards that a worker trains. Workers differ by one shard where their number does not divide."""
    return range(shards * rank // world_size, shards * (rank + 1) // world_size)


def images_of_shard(global_batch: int, shards: int, shard: int) -> slice:
    """A shard's part of a global batch. Parts differ by one image where the number of shards does not divide it."""
    return slice(global_batch * shard // shards, global_batch * (shard + 1) // shards)
