"""The folder of a Ray that is started: short, writable and its own; what the user has named and cannot be used is an error."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from heal.agents.on_ray import folder as folders
from heal.agents.on_ray.folder import LONGEST_PATH, make_folder
from heal.errors import UserError

SOCKET_BYTES = 107


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short path; pytest's own are too long for Ray."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    yield path
    shutil.rmtree(path)


def make_and_delete() -> tuple[Path, bool]:
    path, keep = make_folder()
    path.rmdir()
    return path, keep


def test_the_longest_path_has_room_for_rays_sockets() -> None:
    session = "session_2026-11-29_00-42-24_701168_4194304"
    assert LONGEST_PATH + len(f"/ray01234567/{session}/sockets/plasma_store") == SOCKET_BYTES


@pytest.mark.parametrize("name", ["a" * 80, "é", "file/in/it"])
def test_a_tmpdir_that_does_not_do_is_left_alone(name: str, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (short / "file").write_text("")
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(short / name))
    path, keep = make_and_delete()
    assert path.parent == Path("/tmp").resolve() and not keep
    monkeypatch.setenv("TMPDIR", str(short))
    assert make_and_delete()[0].parent == short


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a" * 80, "too many for the addresses"), ("é", "beyond ASCII"), ("file", "exists"), ("file/in", "directory")],
)
def test_a_ray_tmpdir_that_does_not_do_is_an_error(name: str, reason: str, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (short / "file").write_text("")
    monkeypatch.setenv("RAY_TMPDIR", str(short / name))
    with pytest.raises(UserError, match=f"{reason}.*Set RAY_TMPDIR to a folder") as caught:
        make_folder()
    assert "\n" not in str(caught.value)


def test_a_ray_tmpdir_is_made_and_kept(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(short / "new"))
    path, keep = make_and_delete()
    assert path.parent == short / "new" and keep


def test_a_full_disk_is_named(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(short))
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))
    with pytest.raises(UserError, match="1 MiB of the disk are free"):
        make_folder()
