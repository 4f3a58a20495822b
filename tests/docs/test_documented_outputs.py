"""The documented commands, given one after the other, do not ask for a folder that already holds an output."""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUTPUTS = re.compile(r"heal (?:simulate|evaluate|sweep|demo|profile|rerun) [^\n;&]*?--out (\S+)")


def test_no_two_documented_commands_write_to_one_folder() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    blocks = [block for page in pages for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)]
    folders = Counter(folder for block in blocks for folder in OUTPUTS.findall(block.replace("\\\n", " ")))
    assert len(folders) > 25
    assert {folder: count for folder, count in folders.items() if count > 1} == {}
