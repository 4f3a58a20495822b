"""The process that ends what is left of a Ray: which processes it finds, and what it does when its owner is gone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from heal.agents.on_ray.watchdog import MARK, Watchdog, processes_of

SLEEP = [sys.executable, "-I", "-S", "-c", "print(1, flush=True)\nimport time\ntime.sleep(600)"]
# Starts a watchdog over the folder that is its argument, and waits.
OWNER = "import sys, time\nfrom pathlib import Path\nfrom heal.agents.on_ray.watchdog import Watchdog\n"
OWNER += "kept = Watchdog(Path(sys.argv[1]), False)\nprint(1, flush=True)\ntime.sleep(600)"


@pytest.fixture
def children() -> Iterator[ExitStack]:
    """Ends the processes that a test starts."""
    with ExitStack() as stack:
        yield stack


def start(children: ExitStack, command: list[str], **options: object) -> subprocess.Popen[bytes]:
    """Start a process and wait for its first line, unless its output goes elsewhere."""
    process = subprocess.Popen(command, **{"stdout": subprocess.PIPE, **options})  # type: ignore[call-overload]
    children.callback(process.wait)
    children.callback(process.kill)
    if process.stdout is not None:
        process.stdout.readline()
    return process  # type: ignore[no-any-return]


def marked(folder: Path) -> dict[str, str]:
    return {**os.environ, MARK: str(folder)}


def test_it_finds_marked_processes_and_those_that_write_into_the_folder(tmp_path: Path, children: ExitStack) -> None:
    """A process that reads a file there, such as a pager, is left alone, as is one of another run."""
    folder, other = tmp_path / "ray", tmp_path / "ray2"
    folder.mkdir()
    other.mkdir()
    by_mark = start(children, SLEEP, env=marked(folder))
    start(children, SLEEP, env=marked(other))
    with (folder / "log").open("w") as written, (folder / "log").open() as read:
        writer = start(children, SLEEP, stderr=written)
        start(children, SLEEP, stdin=read)
        assert set(processes_of(str(folder))) == {by_mark.pid, writer.pid, os.getpid()}


def test_dismissed_it_ends_the_others_and_deletes_the_folder(tmp_path: Path, children: ExitStack) -> None:
    left = start(children, SLEEP, env=marked(tmp_path / "ray"))
    for keep in (True, False):
        (tmp_path / "ray").mkdir(exist_ok=True)
        with (tmp_path / "ray" / "log").open("w"):
            Watchdog(tmp_path / "ray", keep).dismiss()
        assert left.wait(5) == -9 and (tmp_path / "ray").exists() == keep


def test_it_acts_when_its_owner_is_killed(tmp_path: Path, children: ExitStack) -> None:
    (tmp_path / "ray").mkdir()
    owner = start(children, [sys.executable, "-c", OWNER, str(tmp_path / "ray")])
    left = start(children, SLEEP, env=marked(tmp_path / "ray"))
    owner.kill()
    assert left.wait(10) == -9
    until_s = time.monotonic() + 10
    while (tmp_path / "ray").exists() and time.monotonic() < until_s:
        time.sleep(0.05)
    assert not (tmp_path / "ray").exists()
