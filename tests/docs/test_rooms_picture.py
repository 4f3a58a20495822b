"""The page of the rooms and the API pages name everything that exists; the picture is well formed, and its arrows point down."""

import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import draw_rooms  # noqa: E402
import rooms  # noqa: E402


def _rooms_on_disk() -> set[str]:
    files = [path for package in rooms.PACKAGES for path in (ROOT / package).rglob("__init__.py")]
    linked = {ROOT / "heal" / name for name in rooms.LINKED}
    return {str(path.parent.relative_to(ROOT)) for path in files if not linked & set(path.parents)} - {"heal"}


def test_the_page_names_exactly_the_rooms_that_exist() -> None:
    page = (ROOT / "docs" / "rooms.md").read_text(encoding="utf-8")
    for text in (page, rooms.with_table(page)):
        assert set(re.findall(r"^\| `([\w/]+)` \| \S", text, re.MULTILINE)) == _rooms_on_disk(), "refresh it: make docs"


def test_the_picture_shows_every_room() -> None:
    picture = ElementTree.fromstring(draw_rooms.picture())
    titles = {text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert all(room in titles or f"{room}/*.py" in titles for room in _rooms_on_disk())


def test_the_picture_depends_on_the_sources_alone() -> None:
    script = "import draw_rooms, hashlib; print(hashlib.sha256(draw_rooms.picture().encode()).hexdigest())"
    hashes = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT / "docs",
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(hashes) == 1


@pytest.mark.parametrize("package", rooms.PACKAGES)
def test_arrows_point_down_and_no_box_covers_another(package: str) -> None:
    panel = draw_rooms.lay_out(package)
    assert all(start.y + start.height < end.y for start, end in panel.ways)
    boxes = [box for row in panel.rows for box in row if box.title]
    for one, other in combinations(boxes, 2):
        beside = one.x + one.width <= other.x or other.x + other.width <= one.x
        assert beside or one.y + one.height <= other.y or other.y + other.height <= one.y, (one.title, other.title)
    assert all(box.x >= 0 and box.x + box.width <= panel.width and box.y + box.height <= panel.height for box in boxes)


def test_the_picture_counts_imports() -> None:
    # heal/fusion/warp.py imports the grid once; `heal.errors` imports nothing of this project.
    assert rooms.imports()["heal/fusion/warp", "heal/grid"] == 1
    assert not [pair for pair in rooms.imports() if pair[0] == "heal/errors"]


@pytest.mark.parametrize("package", rooms.PACKAGES)
def test_the_api_pages_hold_every_module(package: str) -> None:
    page = (ROOT / "docs" / "reference" / f"{package}.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^::: ([\w.]+)$", page, re.MULTILINE))
    missing = []
    for name in (name for name in rooms.modules() if name.split("/")[0] == package):
        parts = (name if package == "heal" else f"heal/{name}").removesuffix("/__init__").split("/")
        # A room on the page brings its modules along; the packages themselves do not.
        least = 1 if name == "heal/__init__" else 2 if package == "heal" else 3
        if not any(".".join(parts[:length]) in named for length in range(least, len(parts) + 1)):
            missing.append(name)
    assert missing == []
