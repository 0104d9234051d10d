"""Memory that is freed is kept for the next step."""

from __future__ import annotations

import ctypes
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's names, malloc.h
LARGEST_BLOCK = 1 << 28
"""Bytes; larger blocks go back to the system when they are freed, as all large ones did before."""
KEPT = 1 << 29
"""Bytes that are kept at most at the end of the heap."""


@cache
def keep_freed_memory() -> bool:
    """Tell the C library's allocator to keep what is freed, up to a limit; once in a process.

    By default glibc gives large blocks back at once and gets them again, empty, for the next operation; each
    page of them is then a fault. A step of training frees and gets the same blocks as the one before it.

    Returns:
        Whether there is such an allocator (glibc's) and it agreed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, LARGEST_BLOCK)) and bool(mallopt(_TRIM_THRESHOLD, KEPT))
