"""The cores and the memory that this process may use, its end with its parent, and settings that make it faster.

The settings leave all results alone, and each was measured.
"""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_PR_SET_PDEATHSIG = 1


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


def usable_memory(root: Path = Path("/")) -> int:
    """Return how many bytes of memory may still be used: those that the machine has left, or that the limits of cgroups leave.

    Args:
        root: as for `usable_cores`.
    """
    import psutil

    return max(
        0, min([int(psutil.virtual_memory().available), *(left for group in _groups(root, "memory") for left in _left_in(group))])
    )


@contextmanager
def changed_environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment in this context, for the processes that are started in it; afterwards they are as before."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def end_with_parent() -> None:
    """Let this process of a pool end when its parent is gone, even if it was killed; the pool itself would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def be_killed_with_parent(parent: int | None = None) -> None:
    """Let Linux kill this process when its parent ends; for the `preexec_fn` of programs that are not ours, and for slow starts.

    Args:
        parent: id of the parent if it may have ended already; then this process ends at once.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def _cpu_quotas(root: Path) -> Iterator[float]:
    """Yield the quota of every limited cgroup that this process is in, in cores; cgroups lie in each other, and each limits."""
    for group in _groups(root, "cpu"):
        yield from _quota_of(group)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of all cgroups that this process is in and that limit "cpu" or "memory", for versions 1 and 2."""
    mounts, lines = root / "sys/fs/cgroup", _read_words(root / "proc/self/cgroup")
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not number.isdigit() or (controllers and controller not in controllers.split(",")):
            continue
        mount = mounts / controller if controllers else mounts
        # In a container the path may be that of the host, which the container does not have; its own limit is at the mount.
        group = mount / path.strip("/")
        while True:
            yield group
            if group == mount:
                break
            group = group.parent


def _left_in(group: Path) -> Iterator[int]:
    """Yield how many bytes of its limit a cgroup has left; nothing if it has no limit. Pages of files count as left."""
    for limit_name, used_name in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        limit, used = _read_words(group / limit_name), _read_words(group / used_name)
        if limit and used and limit[0].isdigit() and used[0].isdigit():
            stat = _read_words(group / "memory.stat")
            pages = dict(zip(stat[::2], stat[1::2], strict=False)).get("inactive_file", "0")
            yield int(limit[0]) - int(used[0]) + int(pages)


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
