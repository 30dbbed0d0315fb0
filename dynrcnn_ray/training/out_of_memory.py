"""Telling a lack of memory from everything else that goes wrong.

Imports PyTorch only to judge an error: a grid's own process has no need of it.
"""

# PyTorch raises a plain RuntimeError where the CPU's allocator or a library on the GPU finds none.
_TEXTS = ("can't allocate memory", "CUDA error: out of memory", "ALLOC_FAILED", "out of shared memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is too little memory, of the host, the GPU or the loaders' shared one."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _TEXTS)


def is_of_gpu(error: BaseException) -> bool:
    """Whether it is a GPU's memory that an error of `is_out_of_memory` found too small."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "CUDA" in str(error)
