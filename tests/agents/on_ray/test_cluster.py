"""A Ray that is started for a run: where its object store lies, which addresses it listens on, and that it ends with its owner."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from heal.agents.on_ray import cluster
from heal.agents.on_ray.cluster import MIB, object_store
from heal.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
# Starts a Ray with an actor, prints its folder and all processes of the Ray, and waits.
RAY = """
import time, psutil, ray
from heal.agents.on_ray.cluster import start_ray
start_ray(metrics_port=0)
actor = ray.remote(num_cpus=0.01)(type("Actor", (), {"ready": lambda self: 1})).remote()
ray.get(actor.ready.remote())
print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
time.sleep(600)
"""


def give(monkeypatch: pytest.MonkeyPatch, memory_mib: int, shared_mib: int, disk_mib: int = 10**6) -> None:
    """Let this machine have so much memory left, so much shared memory, and so much of its disk."""
    monkeypatch.setattr(cluster, "usable_memory", lambda: memory_mib * MIB)
    monkeypatch.setattr(cluster, "free_shared_memory", lambda: shared_mib * MIB)
    monkeypatch.setattr(cluster.shutil, "disk_usage", lambda path: SimpleNamespace(free=disk_mib * MIB))


@pytest.mark.parametrize(
    ("memory", "shared", "wanted", "size"),
    [
        (8000, 9000, None, 2000),
        (1000, 9000, None, 512),
        (64000, 90000, None, 4096),
        (8000, 600, None, 600),
        (8000, 9000, 100, 100),
        (1000, 9000, 8999, 8999),
    ],
)
def test_the_object_store_fits_into_shared_memory(
    memory: int, shared: int, wanted: int | None, size: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    give(monkeypatch, memory, shared)
    assert object_store(wanted, Path("/tmp")) == (size * MIB, Path("/dev/shm"))
    assert not caplog.records


@pytest.mark.parametrize(("shared", "wanted", "size"), [(64, None, 512), (0, None, 512), (600, 700, 700)])
def test_an_object_store_on_disk_is_said_aloud(
    shared: int, wanted: int | None, size: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    give(monkeypatch, 8000, shared)
    with caplog.at_level(logging.WARNING):
        assert object_store(wanted, Path("/tmp")) == (size * MIB, Path("/tmp"))
    [record] = caplog.records
    assert f"the object store of {size} MiB lies on disk, in /tmp" in record.message and "\n" not in record.message


def test_without_room_for_the_object_store_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, 8000, 64, disk_mib=100)
    with pytest.raises(UserError, match=r"no room for the object store of 512 MiB.*the disk of /tmp 100 MiB"):
        object_store(None, Path("/tmp"))


def test_shared_memory_that_cannot_be_written_counts_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "SHARED_MEMORY", tmp_path)
    assert cluster.free_shared_memory() == shutil.disk_usage(tmp_path).free
    monkeypatch.setattr(cluster, "SHARED_MEMORY", tmp_path / "absent")
    assert cluster.free_shared_memory() == 0


def test_a_home_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray keeps its token there; the watchdog of the failed start is gone afterwards."""

    def refuse(**options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/home/u/.ray")

    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(cluster.ray, "init", refuse)
    with pytest.raises(UserError, match=r"/home/u/.ray: permission denied; Ray writes a token to ~/.ray, so HOME must be writable"):
        cluster.start_ray()
    assert cluster._watchdogs == [] and cluster.MARK not in os.environ


def test_the_actors_of_a_cluster_are_told_the_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes of a cluster do not inherit the environment of a run."""
    given: list[object] = []
    monkeypatch.setattr(cluster, "find_cluster", lambda address: address)
    monkeypatch.setattr(cluster.ray, "init", lambda **options: given.append(options["runtime_env"]))
    for plugins in ("/srv/my_encoder.py", ""):
        monkeypatch.setenv("HEAL_PLUGINS", plugins)
        assert cluster.start_ray("head:6379")
    assert given == [{"env_vars": {"HEAL_PLUGINS": "/srv/my_encoder.py"}}, None]


@pytest.mark.parametrize(("mode", "warns"), [(None, True), ("disabled", True), ("token", False)])
def test_a_cluster_without_a_token_is_warned_of(
    mode: str | None, warns: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cluster, "find_cluster", lambda address: address)
    monkeypatch.setattr(cluster.ray, "init", lambda **options: None)
    monkeypatch.delenv(cluster.AUTH_MODE, raising=False)
    if mode is not None:
        monkeypatch.setenv(cluster.AUTH_MODE, mode)
    with caplog.at_level(logging.WARNING):
        assert cluster.start_ray("head:6379")
    assert [("whoever reaches it can run programs" in record.message) for record in caplog.records] == [True] * warns


def test_the_owner_alone_can_read_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray writes it as every other file, which all users of a machine can read by default."""
    monkeypatch.setenv("HOME", str(tmp_path))
    cluster.hide_token()
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("secret")
    for mode in (0o644, 0o660, 0o400):
        token.chmod(mode)
        cluster.hide_token()
        assert token.stat().st_mode & 0o777 == (mode if mode == 0o400 else 0o600) and token.read_text() == "secret"


def test_the_programs_own_handlers_of_signals_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    def own(number: int, frame: object) -> None: ...

    def replace_handlers(metrics_port: int | None, store_mib: int | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    monkeypatch.setattr(cluster, "_start", replace_handlers)
    before = signal.signal(signal.SIGTERM, own)
    try:
        assert cluster.start_ray() and signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_oldest_ray_that_is_allowed_asks_for_a_token_by_default() -> None:
    """Ray does so for the Ray of one program since 2.59; before, anyone who reached its ports could run programs."""
    [oldest] = re.findall(r'"ray\[[a-z,]+\]>=(\d+)\.(\d+)"', (ROOT / "setup.py").read_text())
    assert tuple(map(int, oldest)) >= (2, 59)


@pytest.mark.ray
def test_a_ray_listens_to_this_machine_alone_and_ends_with_its_owner() -> None:
    owner = subprocess.Popen([sys.executable, "-c", RAY], stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert owner.stdout is not None
        processes = [psutil.Process(int(word)) for word in owner.stdout.readline().split()]
        listening = {one.laddr.ip for process in processes for one in process.net_connections("inet") if one.status == "LISTEN"}
        [folder] = {word for process in processes for word in process.cmdline() if Path(word).parent == Path("/tmp")}
        os.kill(owner.pid, signal.SIGKILL)
        killed_s = time.monotonic()
        assert psutil.wait_procs(processes, timeout=10)[1] == [] and time.monotonic() - killed_s < 10
    finally:
        owner.kill()
        owner.wait()
    assert listening and listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    assert not Path(folder).exists()
