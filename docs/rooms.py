"""The rooms of the source tree, read from the source files: their modules, their imports, and their purposes.

A module is named by its path without suffix, such as "heal/fusion/warp".
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from textwrap import wrap

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("tools", "agents", "datasets", "heal")
LINKED = ("agents", "configs", "datasets", "tools")
MARKERS = "<!-- rooms: written by docs/draw_rooms.py -->\n", "<!-- end of the rooms -->\n"
BEND_WIDTH = 4.0


@cache
def modules() -> dict[str, ast.Module]:
    """Return the syntax tree of every module."""
    linked = {ROOT / "heal" / name for name in LINKED}
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if not linked & set(path.parents))
    return {str(path.relative_to(ROOT).with_suffix("")): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def room_purposes() -> dict[str, str]:
    """Return the docstring of every room's `__init__`, by the room's folder."""
    rooms = {name.rpartition("/")[0]: tree for name, tree in modules().items() if name.endswith("/__init__")}
    return {room: " ".join((ast.get_docstring(tree) or "").split()) for room, tree in sorted(rooms.items()) if room != "heal"}


@cache
def imports() -> Counter[tuple[str, str]]:
    """Count the import statements between two modules: (importing module, imported module)."""
    counts: Counter[tuple[str, str]] = Counter()
    for name, tree in modules().items():
        for node in ast.walk(tree):
            counts.update((name, imported) for imported in sorted(_imported(node) - {name, "heal/__init__"}))
    return counts


def _imported(node: ast.AST) -> set[str]:
    """Return the modules of this project that a statement imports."""
    if isinstance(node, ast.Import):
        return {module for alias in node.names if (module := _module_at(alias.name))}
    if isinstance(node, ast.ImportFrom) and node.module:
        # `from heal.fusion import warp` names a module, `from heal.fusion.warp import warp_maps` a part of one.
        names = [_module_at(f"{node.module}.{alias.name}") or _module_at(node.module) for alias in node.names]
        return {module for module in names if module}
    return set()


def _module_at(dotted: str) -> str | None:
    parts = dotted.split(".")
    path = "/".join(parts[1:] if parts[0] == "heal" and parts[1:2] and parts[1] in LINKED else parts)
    return next((name for name in (path, f"{path}/__init__") if name in modules()), None)


# From modules to boxes. A room is a box. Where a room inside a folder imports the folder's own modules, these are drawn in several
# boxes, one for each floor, so that every arrow points down.


@dataclass(eq=False)
class Box:
    """A room, or single modules on one floor; x and y are the upper left corner, in pixels. A bend of an arrow has no title."""

    title: str = ""
    names: list[str] = field(default_factory=list)
    lines: int = 0
    is_room: bool = True
    row: int = 0
    x: float = 0.0
    y: float = 0.0
    color: str = ""

    @property
    def notes(self) -> list[str]:
        """The small lines under the title."""
        short = [name.rpartition("/")[2] for name in self.names if not name.endswith("/__init__")]
        size = f"{len(short)} module{'s' * (len(short) != 1)}, {self.lines:,} lines"
        return [size] if self.is_room else [*wrap(", ".join(short), 34), size]

    @property
    def width(self) -> float:
        """Estimate of the widest line of text."""
        return max(8.8 * len(self.title), *(6.1 * len(line) for line in self.notes)) + 22 if self.title else BEND_WIDTH

    @property
    def height(self) -> float:
        """Height of all lines of text."""
        return 32.0 + 15.0 * len(self.notes) if self.title else 0.0

    @property
    def center(self) -> float:
        """The x in the middle."""
        return self.x + self.width / 2


def package_boxes(package: str) -> dict[str, Box]:
    """Return the box of every module of a package."""
    names = [name for name in modules() if name.split("/")[0] == package and name != "heal/__init__"]
    split = {folder for folder in {name.rpartition("/")[0] for name in names} if _is_imported_from_inside(folder)}
    node_of = {name: name if (folder := name.rpartition("/")[0]) in split else folder for name in names}
    floors, rooms = _floors(node_of, set(names)), room_purposes()
    made: dict[tuple[str, int], Box] = {}
    for name, node in node_of.items():
        folder = name.rpartition("/")[0]
        is_room = node in rooms
        title = folder if is_room else f"{folder}/*.py"
        box = made.setdefault((folder, 0 if is_room else floors[node]), Box(title, is_room=is_room))
        box.names.append(name)
        box.lines += (ROOT / f"{name}.py").read_text(encoding="utf-8").count("\n")
    return {name: box for box in made.values() for name in box.names}


def _is_imported_from_inside(folder: str) -> bool:
    """Say whether a room inside the folder imports a module that lies directly in the folder."""
    inside = {(name, to) for name, to in imports() if name.startswith(f"{folder}/") and to.rpartition("/")[0] == folder}
    return any(name.rpartition("/")[0] != folder for name, _ in inside)


def _floors(node_of: Mapping[str, str], singles: set[str]) -> dict[str, int]:
    """Count for every node how often a way down leads from a room to a single module: such modules stand below that room."""
    below: dict[str, set[str]] = {node: set() for node in node_of.values()}
    for name, to in imports():
        if name in node_of and to in node_of and node_of[name] != node_of[to]:
            below[node_of[name]].add(node_of[to])

    @cache
    def floor(node: str) -> int:
        return max((floor(to) + (node not in singles and to in singles) for to in below[node]), default=0)

    return {node: floor(node) for node in below}


def arrows(box_of: Mapping[str, Box]) -> Counter[tuple[Box, Box]]:
    """Count the imports between two boxes."""
    counts: Counter[tuple[Box, Box]] = Counter()
    for (name, to), count in imports().items():
        if name in box_of and to in box_of and box_of[name] is not box_of[to]:
            counts[box_of[name], box_of[to]] += count
    return counts


def table() -> str:
    """Return a Markdown table: every room and its purpose."""
    rows = [f"| `{room}` | {purpose.removesuffix('.')} |\n" for room, purpose in room_purposes().items()]
    return "".join(["| room | purpose |\n|---|---|\n", *rows])


def with_table(page: str) -> str:
    """Return the page with the present table between the two markers."""
    before, _, rest = page.partition(MARKERS[0])
    after = rest.partition(MARKERS[1])[2]
    return f"{before}{MARKERS[0]}\n{table()}\n{MARKERS[1]}{after}"
