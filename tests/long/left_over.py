"""What a command leaves behind when it is gone: processes, shared memory, temporary files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

SHARED_MEMORY = Path("/dev/shm")


def _marked(variable: str, value: str) -> list[int]:
    """Return the processes whose environment has a variable of this value: a program and everything that it has started."""
    needle = f"{variable}={value}\0".encode()
    return [pid for pid in _own_processes() if needle in _read(pid, "environ")]


def wait_until_gone(variable: str, value: str, timeout_s: float) -> list[str]:
    """Wait for the end of all processes with a mark; return the command lines of those that are still there after `timeout_s`."""
    until_s = monotonic() + timeout_s
    while (pids := _marked(variable, value)) and monotonic() < until_s:
        sleep(0.1)
    return [_read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip() for pid in pids]


def shared_memory() -> set[str]:
    """Return the names of all objects in shared memory."""
    return {path.name for path in SHARED_MEMORY.iterdir()}


def abandoned(names: set[str]) -> list[str]:
    """Return the objects in shared memory of these names that no living process of this user has open."""
    used = {name for pid in _own_processes() for name in _open_shared_memory(pid)}
    return sorted(name for name in names & shared_memory() if name not in used)


def files_below(folder: Path) -> list[str]:
    """Return the paths of all files and folders below a folder, relative to it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.exists() else []


def _own_processes() -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if entry.stat().st_uid == os.getuid():
                yield int(entry.name)


def _open_shared_memory(pid: int) -> Iterator[str]:
    prefix = f"{SHARED_MEMORY}/"
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
            if prefix in line:
                yield line.partition(prefix)[2].split()[0]
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                target = str(link.readlink())
                if target.startswith(prefix):
                    yield target.removeprefix(prefix).split()[0]


def _read(pid: int, name: str) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""
