"""Settings that make a computing process faster and leave its results alone; each was measured."""

from __future__ import annotations

import ctypes
import os

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def sleep_while_waiting() -> None:
    """Let OpenMP's threads spin only shortly at barriers, as loaders and actors share the cores. Call this before torch is loaded.

    Threads that slept at once would be slower: to wake a thread takes longer than a small operation, and sparse convolutions, which
    are thousands of small operations, took seven times as long. This number of spins takes some tens of microseconds.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def keep_freed_memory() -> None:
    """Let glibc keep freed memory: by default every large tensor is made of new zeroed pages, which takes longer than filling it.

    Raising glibc's threshold for large blocks would not do: it is capped at 32 MiB, a map of 128 channels and 256 x 256 cells.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)
    libc.mallopt(_M_TOP_PAD, 256 * 2**20)
