"""Files are written whole; what a killed process has left of one is removed by the next process that writes there."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from heal.atomic_write import folder_made_whole, remove_left_over, replacing, unfinished, write_text

WRITE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from heal.atomic_write import folder_made_whole, replacing
with replacing(Path(sys.argv[1])) as file, folder_made_whole(Path(sys.argv[2])) as folder:
    file.write_text("half")
    folder.mkdir()
    (folder / "part").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_left_over_files_of_a_killed_process_are_removed_and_no_others(tmp_path: Path) -> None:
    path, folder = tmp_path / "scores.v2.json", tmp_path / "alliance"
    killed = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, str(path), str(folder)], check=False)
    left = names(tmp_path)
    assert killed.returncode == -signal.SIGKILL and len(left) == 2 and all(name.startswith(".") for name in left)
    running, elsewhere = unfinished(path), tmp_path / f"{min(left).rpartition('@')[0]}@elsewhere.unfinished.json"
    for other in (running, elsewhere, tmp_path / ".unfinished", tmp_path / ".notes@1@me.unfinished.txt"):
        other.write_text("mine")
    kept = names(tmp_path) - left
    write_text(path, "whole")
    assert names(tmp_path) == kept | {path.name} and path.read_text() == "whole"


def test_an_error_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    write_text(tmp_path / "one", "old")
    with pytest.raises(RuntimeError), replacing(tmp_path / "one") as file, folder_made_whole(tmp_path / "two") as folder:
        file.write_text("new")
        folder.mkdir()
        raise RuntimeError
    assert names(tmp_path) == {"one"} and (tmp_path / "one").read_text() == "old"


def test_two_files_that_are_written_at_once_have_different_names(tmp_path: Path) -> None:
    assert unfinished(tmp_path / "one.json") != unfinished(tmp_path / "one.json")
    remove_left_over(tmp_path / "nowhere")
