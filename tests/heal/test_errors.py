"""The errors that are printed in one line: their common class, and the sentence for an error of the file system."""

from __future__ import annotations

import builtins
import errno
import os
from functools import partial
from pathlib import Path

import pytest

from heal import errors
from heal.alliance import AllianceError
from heal.config import ConfigError
from heal.datasets.dataset import DatasetError
from heal.datasets.town import TownSource
from heal.errors import UserError, file_system_cause, naming_errors_after, require_package
from heal.tools.viewer.viewer import open_viewer
from heal.training.replica import ReplicaError
from heal.training.step import TrainingStoppedError


@pytest.mark.parametrize("kind", [AllianceError, ConfigError, DatasetError, ReplicaError, TrainingStoppedError])
def test_our_errors_are_user_errors(kind: type[Exception]) -> None:
    assert issubclass(kind, UserError)
    assert issubclass(UserError, ValueError)


def test_the_sentence_names_the_path_and_the_cause(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught:
        (tmp_path / "nowhere" / "file").read_bytes()
    assert file_system_cause(caught.value) == f"{tmp_path}/nowhere/file: no such file or folder"
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError) as caught:
        (tmp_path / "file" / "below").mkdir()
    assert file_system_cause(caught.value) == f"{tmp_path}/file/below: a part of the path is a file, expected a folder"


def test_errors_that_are_not_of_the_file_system_have_no_sentence() -> None:
    for error in (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), TimeoutError(), OSError("no free port")):
        assert file_system_cause(error) is None


def test_an_unnamed_error_gets_the_path_and_a_named_one_keeps_its_own_unless_it_is_overruled() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OSError), naming_errors_after(Path("runs/a.json")):
        raise full
    assert file_system_cause(full) == "runs/a.json: no space is left on the disk"
    with pytest.raises(OSError), naming_errors_after(Path("runs/b.json")):
        raise full
    assert file_system_cause(full) == "runs/a.json: no space is left on the disk"
    with pytest.raises(OSError), naming_errors_after(Path("runs/b.json"), overrule=True):
        raise full
    assert file_system_cause(full) == "runs/b.json: no space is left on the disk"


def test_a_missing_system_library_of_open3d_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_library(name: str, *arguments: object) -> object:
        if name == "open3d":
            raise ImportError("libusb-1.0.so.0: cannot open shared object file")
        return imported(name, *arguments)

    imported = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", without_library)
    with pytest.raises(UserError, match=r"libusb-1\.0\.so\.0.*apt-get install libusb-1\.0-0"):
        TownSource("test", seed=1, ticks=1).outline(0)


def test_the_extra_of_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    town, viewer = TownSource("test", seed=1, ticks=1), partial(open_viewer, None, Path("drive.rrd"), (0.0,) * 6, "run")
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"the town needs open3d, .*: pip install 'heal-perception\[town\]'"):
        town.agent_frame(0, town.outline(0).ego_id)
    with pytest.raises(UserError, match=r"the live view needs rerun, .*: pip install 'heal-perception\[view\]'"):
        viewer()
    monkeypatch.undo()
    require_package("open3d", "town", "the town")
