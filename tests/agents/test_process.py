"""The cores that a process may use: its affinity, and the quotas of cgroups of both versions."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from heal.agents import process
from heal.agents.process import limit_threads, usable_cores

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
