"""The cores that this process may use, and settings that make it faster and leave its results alone; each was measured."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Iterator
from pathlib import Path

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


def usable_cores(root: Path = Path("/")) -> int:
    """Return the number of CPU cores that this process may use: the smaller of its affinity and of the quotas of its cgroups.

    A quota of a part of a core counts as a whole core.

    Args:
        root: folder in which the system's folders `proc` and `sys` lie; another one is for tests.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(quota) for quota in _cpu_quotas(root))]))


def limit_threads() -> None:
    """Lower the number of torch's threads to the usable cores: OpenMP knows the affinity of a process, but no quota of a cgroup."""
    import torch

    torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))


def _cpu_quotas(root: Path) -> Iterator[float]:
    """Yield the quota of every limited cgroup that this process is in, in cores; cgroups lie in each other, and each limits."""
    mounts, lines = root / "sys/fs/cgroup", _read_words(root / "proc/self/cgroup")
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not number.isdigit() or (controllers and "cpu" not in controllers.split(",")):
            continue
        mount = mounts / "cpu" if controllers else mounts
        # In a container the path may be that of the host, which the container does not have; its own limit is at the mount.
        group = mount / path.strip("/")
        while True:
            yield from _quota_of(group)
            if group == mount:
                break
            group = group.parent


def _quota_of(group: Path) -> Iterator[float]:
    """Yield the quota of a cgroup in cores, from the file of version 2 or the two of version 1; nothing if it has no limit."""
    words = [word for name in ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us") for word in _read_words(group / name)]
    if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[0]) and int(words[1]):
        yield int(words[0]) / int(words[1])


def _read_words(path: Path) -> list[str]:
    """Return the words of a small system file; none if the file cannot be read."""
    try:
        return path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        return []
