"""The C library's memory on a CPU: kept by the process from step to step."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Parameters of glibc's `mallopt`."""
_NEVER = -1


def keep_freed_memory() -> None:
    """Have glibc hand out freed memory again instead of returning it to the kernel.

    Every step frees and asks for the same large tensors. By default each goes back to the kernel, which then maps and
    zeroes it anew, page by page. Another C library is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
