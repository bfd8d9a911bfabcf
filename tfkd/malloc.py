"""Settings of the C library's memory allocator for processes that run TensorFlow.

TensorFlow allocates tensors with `posix_memalign`, in the same sizes at each step. By default glibc
gives each thread a heap of its own, whose free memory other threads cannot use, and returns large
blocks to the system, which must clear the same pages again a moment later.
"""

from __future__ import annotations

import ctypes
import os
import sys

# Parameters of mallopt(3), from <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_MAX_INT = 2**31 - 1
# The largest threshold that glibc accepts; larger blocks are always returned to the system.
_LARGEST_BLOCK_BYTES = 32 * 2**20
_SET_BY_THE_USER = ("MALLOC_", "GLIBC_TUNABLES")


def share_one_heap() -> bool:
    """Makes all threads of this process share one heap, which keeps freed memory.

    This lowers peak memory and takes about as much time (docs/decisions/0016-one-heap.md). Call it
    before the first thread is started, because existing heaps remain. It does nothing if the
    environment configures the allocator (`MALLOC_*`, `GLIBC_TUNABLES`), or without glibc.

    Returns:
      Whether the process now shares one heap.
    """
    if sys.platform != "linux" or any(name.startswith(_SET_BY_THE_USER) for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {
        _M_ARENA_MAX: 1,
        _M_MMAP_THRESHOLD: _LARGEST_BLOCK_BYTES,
        _M_TRIM_THRESHOLD: _MAX_INT,
    }
    accepted = [mallopt(parameter, value) for parameter, value in settings.items()]
    return all(accepted)
