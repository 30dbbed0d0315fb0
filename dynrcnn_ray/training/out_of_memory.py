"""Telling a lack of memory from everything else that goes wrong.

Does not import PyTorch, of which a grid's own process has no need: where nobody has, there is no error of it.
"""

import sys

# PyTorch raises a plain RuntimeError where the CPU's allocator or a library on the GPU finds none.
_TEXTS = ("can't allocate memory", "CUDA error: out of memory", "ALLOC_FAILED", "out of shared memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is too little memory, of the host, the GPU or the loaders' shared one."""
    if isinstance(error, MemoryError) or _is_pytorchs(error):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _TEXTS)


def is_of_gpu(error: BaseException) -> bool:
    """Whether it is a GPU's memory that an error of `is_out_of_memory` found too small."""
    return _is_pytorchs(error) or "CUDA" in str(error)


def _is_pytorchs(error: BaseException) -> bool:
    pytorch = sys.modules.get("torch")
    return pytorch is not None and isinstance(error, pytorch.OutOfMemoryError)
