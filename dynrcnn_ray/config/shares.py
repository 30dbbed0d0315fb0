"""How the images of a global batch are divided over workers."""


def share_of_worker(global_batch: int, rank: int, world_size: int) -> slice:
    """The worker's part of a global batch. Parts differ by one image where the number of workers does not divide it."""
    return slice(global_batch * rank // world_size, global_batch * (rank + 1) // world_size)
