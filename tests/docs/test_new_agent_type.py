"""The page on new agent types: its files are written and its commands run, as they stand there."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from heal.alliance import load_alliance

ROOT = Path(__file__).resolve().parents[2]


def _blocks(page: str) -> Iterator[tuple[str, str, str]]:
    """Language, file name and content of every block of code."""
    for match in re.finditer(r"^```(\w+) ?(\S*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        yield match[1], match[2], match[3]


def _run(command: str, folder: Path) -> None:
    words = shlex.split(command)
    if words[0] == "heal":
        words = [sys.executable, "-m", "heal.tools.cli", *words[1:]]
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def test_the_page_works_as_written(tmp_path: Path) -> None:
    for name in ("heal", "agents", "datasets", "configs", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "runs").mkdir()
    for language, name, content in _blocks((ROOT / "docs" / "new_agent_type.md").read_text()):
        if language == "yaml":
            (tmp_path / "runs" / name).write_text(content)
        elif language == "python":
            (tmp_path / name).write_text(content)
        else:
            for command in content.strip().splitlines():
                _run(command, tmp_path)
    assert load_alliance(tmp_path / "runs" / "alliance").agent_names[-1] == "slim"
    assert (tmp_path / "runs" / "mine" / "heights" / "agent.safetensors").exists()
