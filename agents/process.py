"""Settings of a process that computes: measured, with nothing of the results changed."""

from __future__ import annotations

import ctypes
import os

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def sleep_while_waiting() -> None:
    """Let OpenMP's threads sleep at barriers soon: loaders and actors share the cores. To be called before torch loads.

    Not at once: waking one takes longer than many a small operation, and sparse convolutions, which are thousands of these, would
    take seven times as long. So many turns of GNU's loop are some tens of microseconds.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def keep_freed_memory() -> None:
    """Have glibc keep freed blocks: by default every large tensor is new zeroed pages, which takes longer than filling it.

    Not by a threshold: glibc caps that at 32 MiB, a map of 128 channels over 256 x 256 cells.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)
    libc.mallopt(_M_TOP_PAD, 256 * 2**20)
