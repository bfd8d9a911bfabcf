"""Settings of the C library's memory allocator for processes that run TensorFlow.

TensorFlow asks for its tensors by `posix_memalign`, step after step in the same sizes. glibc gives
each thread a heap of its own, and the pieces that one thread has freed are lost to the others; big
pieces and free tops go back to the system, which clears the same pages again a moment later.
"""

from __future__ import annotations

import ctypes
import os
import sys

# Parameters of mallopt(3), from <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_MOST = 2**31 - 1
# The largest value that glibc takes. Larger pieces come from the system and go back to it.
_LARGEST_PIECE_BYTES = 32 * 2**20
_SET_BY_THE_USER = ("MALLOC_", "GLIBC_TUNABLES")


def share_one_heap() -> bool:
    """Lets all threads of this process share one heap, which keeps what it once got.

    Takes less memory at the peak, and no more time (docs/decisions/0016-one-heap.md). Heaps that
    exist stay, so it must come before the first thread. It does nothing where the environment says
    how memory is shared out (`MALLOC_*`, `GLIBC_TUNABLES`), and where there is no glibc.

    Returns:
      Whether the process now shares one heap.
    """
    if sys.platform != "linux" or any(name.startswith(_SET_BY_THE_USER) for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_M_ARENA_MAX: 1, _M_MMAP_THRESHOLD: _LARGEST_PIECE_BYTES, _M_TRIM_THRESHOLD: _MOST}
    accepted = [mallopt(parameter, value) for parameter, value in settings.items()]
    return all(accepted)
