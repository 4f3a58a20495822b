"""The cores that a process may use: its affinity, and the quotas of cgroups of both versions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from heal.agents import process
from heal.agents.process import end_with_parent, limit_threads, usable_cores, usable_memory

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


def write_system(root: Path, cgroups: str, files: dict[str, str]) -> Path:
    """Write /proc/self/cgroup, and files below /sys/fs/cgroup by their names; return the root."""
    for name, text in {"proc/self/cgroup": cgroups, **{f"sys/fs/cgroup/{key}": text for key, text in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("cgroups", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 8),
        ("0::/batch/job\n", {"batch/cpu.max": "300000 100000\n", "batch/job/cpu.max": "max 100000\n"}, 3),
        ("4:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ("4:cpu:/host/path\n", {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ("4:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ("3:memory:/\n", {"memory/cpu.max": "100000 100000\n"}, 8),
        ("nonsense\n", {"cpu.max": "100000 100000\n"}, 8),
    ],
)
def test_the_smaller_of_affinity_and_quota(tmp_path: Path, cgroups: str, files: dict[str, str], cores: int) -> None:
    assert usable_cores(write_system(tmp_path, cgroups, files)) == cores


def test_without_cgroups_the_affinity_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_cores(tmp_path) == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5})
    assert usable_cores(tmp_path) == 1


MIB = 2**20


@pytest.mark.parametrize(
    ("cgroups", "files", "left_mib"),
    [
        ("0::/\n", {}, 1000),
        ("0::/\n", {"memory.max": "max\n", "memory.current": f"{10 * MIB}\n"}, 1000),
        ("0::/\n", {"memory.max": f"{100 * MIB}\n", "memory.current": f"{10 * MIB}\n"}, 90),
        (
            "0::/\n",
            {"memory.max": f"{100 * MIB}", "memory.current": f"{90 * MIB}", "memory.stat": f"inactive_file {MIB}"},
            11,
        ),
        ("0::/a/b\n", {"a/memory.max": f"{50 * MIB}\n", "a/memory.current": "0\n", "a/b/memory.max": "max\n"}, 50),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": f"{7 * MIB}\n", "memory/memory.usage_in_bytes": "0\n"}, 7),
        ("0::/\n", {"memory.max": f"{9 * MIB}\n", "memory.current": f"{10 * MIB}\n"}, 0),
    ],
)
def test_the_smaller_of_the_machines_memory_and_the_limits_is_left(
    tmp_path: Path, cgroups: str, files: dict[str, str], left_mib: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000 * MIB))
    assert usable_memory(write_system(tmp_path, cgroups, files)) == left_mib * MIB


# A pool whose worker prints its number and sleeps; the main process is this program.
POOL = """
import os, sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from heal.agents.process import end_with_parent

def work() -> None:
    print(os.getpid(), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    with ProcessPoolExecutor(2, get_context("spawn"), initializer=end_with_parent) as pool:
        [future.result() for future in [pool.submit(work) for _ in range(2)]]
"""


def test_a_pool_and_its_resource_tracker_end_with_their_parent(tmp_path: Path) -> None:
    (tmp_path / "pool.py").write_text(POOL)
    with subprocess.Popen([sys.executable, str(tmp_path / "pool.py")], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = {int(parent.stdout.readline()) for _ in range(2)}
        children = psutil.Process(parent.pid).children(recursive=True)
        parent.kill()
        assert workers < {child.pid for child in children} and psutil.wait_procs(children, timeout=10)[1] == []


@pytest.mark.parametrize("gone", [False, True])
def test_a_program_ends_with_its_parent_or_at_once_if_that_is_gone(gone: bool) -> None:
    """The parent prints the id of its child, whose own parent is said to be another process if `gone`, and waits to be killed."""
    child = f"""if True:
        import os, time
        from heal.agents.process import be_killed_with_parent
        be_killed_with_parent(1 if {gone} else os.getppid())
        print(1, flush=True)
        time.sleep(600)"""
    code = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {child!r}]); print(p.pid, flush=True); p.wait()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        started = psutil.Process(int(parent.stdout.readline()))
        if gone:
            assert parent.wait(10) == 0
        else:
            parent.stdout.readline()
            parent.kill()
        assert psutil.wait_procs([started], timeout=10)[1] == []


def test_a_process_of_no_pool_has_no_parent_to_wait_for() -> None:
    threads = threading.active_count()
    end_with_parent()
    assert threading.active_count() == threads


@pytest.fixture
def threads() -> Iterator[None]:
    """Set torch's number of threads back after the test."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_torch_gets_no_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, after in ((2, 2), (8, 4)):
        torch.set_num_threads(4)
        monkeypatch.setattr(process, "usable_cores", lambda cores=cores: cores)
        limit_threads()
        assert torch.get_num_threads() == after


def test_no_other_module_counts_cores() -> None:
    counting = re.compile(r"\b(cpu_count|sched_getaffinity)\(")
    sources = [path for folder in ("agents", "datasets", "heal", "tools") for path in (ROOT / folder).rglob("*.py")]
    assert {path.name for path in sources if counting.search(path.read_text(encoding="utf-8"))} == {"process.py"}
