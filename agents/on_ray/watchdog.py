"""A small process that ends what is left of a Ray, and deletes its folder, once the process that started this Ray is gone.

When that process is killed, most of Ray's processes end within a second, but two of them a minute later. This file runs as a
program of its own and imports the standard library alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# Set while a Ray is started: its processes inherit it. Some of them overwrite it later, but by then they have opened a log file.
MARK = "HEAL_RAY_FOLDER"
PATIENCE_S, PAUSE_S = 9.0, 0.1
# A process of Ray that has just been started shows neither the mark nor a file for a moment.
QUIET_S = 3.0
_SHUT_DOWN = b"."


class Watchdog:
    """Watches over the Ray of this process."""

    def __init__(self, folder: Path, keep: bool) -> None:
        """Start the watching process; it notices the end of this process, however sudden, because a pipe closes.

        Args:
            folder: the Ray's folder, which no other program uses.
            keep: whether the folder stays when the Ray is gone.
        """
        command = [sys.executable, "-I", "-S", __file__, str(folder), str(os.getpid()), str(int(keep))]
        # In a session of its own, so that Ctrl-C does not reach it.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def dismiss(self) -> None:
        """Let the watching process do its work now, and wait for its end; the Ray has been shut down."""
        with suppress(subprocess.TimeoutExpired):
            self._process.communicate(_SHUT_DOWN, timeout=PATIENCE_S)


def processes_of(folder: str) -> Iterator[int]:
    """Yield the ids of this user's processes that carry the mark of this folder, or write to a file in the folder."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if process.stat().st_uid == os.getuid() and _belongs_to(process, folder):
                yield int(process.name)


def _belongs_to(process: Path, folder: str) -> bool:
    marked = f"{MARK}={folder}\0".encode() in (process / "environ").read_bytes()
    return marked or any(_writes(link, folder) for link in (process / "fd").iterdir())


def _writes(link: Path, folder: str) -> bool:
    """Return whether an open file of a process lies in a folder and can be written to."""
    with suppress(OSError):
        return str(link.readlink()).startswith(folder + "/") and bool(link.lstat().st_mode & stat.S_IWUSR)
    return False


def end_processes(folder: str, spared: int, quiet_s: float) -> None:
    """Kill the processes of a folder until there have been none for `quiet_s`, or for `PATIENCE_S` at most.

    Args:
        folder: see `processes_of`.
        spared: id of the process that lives on.
        quiet_s: time in s.
    """
    begun_s = last_s = time.monotonic()
    while time.monotonic() < begun_s + PATIENCE_S:
        found = [pid for pid in processes_of(folder) if pid not in (spared, os.getpid())]
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        now_s = time.monotonic()
        last_s = now_s if found else last_s
        if not found and now_s - last_s >= quiet_s:
            return
        time.sleep(PAUSE_S)


def main(folder: str, owner: int, keep: bool) -> None:
    """Wait until the owner shuts its Ray down or is gone; then end what is left, and delete the folder unless it is kept."""
    shut_down = sys.stdin.buffer.read() == _SHUT_DOWN
    end_processes(folder, owner, 0.0 if shut_down else QUIET_S)
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), bool(int(sys.argv[3])))
