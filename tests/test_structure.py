"""The shape of the code base: which way imports point, what a room may import, how large rooms, files and functions are."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINKED = ("agents", "datasets", "configs", "tools")
ALLOWED = {
    "heal": {"heal"},
    "agents": {"heal", "agents"},
    "datasets": {"heal", "datasets"},
    "tools": {"heal", "agents", "datasets", "tools"},
}
# The floors of heal/: a part may import its floor and those below. Parts of one floor may import each other, without a circle.
FLOORS = (
    {
        "agent_types",
        "atomic_write",
        "box_corners",
        "checkpoint_file",
        "types",
        "grid",
        "se3",
        "config",
        "device",
        "errors",
        "seeding",
        "option_text",
        "safe_yaml",
        "plugin_files",
        "plugins",
        "pose_noise",
    },
    {
        "aligners",
        "defence",
        "detection",
        "encoders",
        "fusion",
        "heads",
        "identity",
        "layers",
        "measures",
        "message",
        "pose_correction",
        "sparse",
    },
    {"agent_model", "base_model", "collab_model", "alliance", "storage"},
    {"graphs", "opencood", "training"},
)
MOST_MODULES, MOST_LINES, MOST_FUNCTION_LINES = 20, 400, 40


def _sources(folder: str) -> list[Path]:
    """All Python files of a top-level folder, without those that lie behind the links in heal/."""
    linked = {ROOT / "heal" / name for name in LINKED}
    return sorted(path for path in (ROOT / folder).rglob("*.py") if not linked & set(path.parents))


def _imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _layer(module: str) -> str | None:
    """The top-level folder that a module of ours belongs to, None for a foreign module."""
    parts = module.split(".")
    if parts[0] in LINKED:
        return f"top-level {parts[0]}"
    if parts[0] != "heal":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in ALLOWED else "heal"


def _module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == "heal" else ("heal", *parts)).removesuffix(".__init__")


def _room(path: Path) -> str:
    """The room of a module: its folder; where the folder holds further rooms, the module by itself."""
    folder = path.relative_to(ROOT).parent
    holds_rooms = len(folder.parts) == 1 or any(entry.is_dir() and any(entry.glob("*.py")) for entry in path.parent.iterdir())
    return str(path.relative_to(ROOT).with_suffix("")) if holds_rooms else str(folder)


def _arrows() -> Mapping[str, set[str]]:
    """For every room the other rooms that it imports."""
    rooms = {_module_name(path): _room(path) for folder in ALLOWED for path in _sources(folder)}
    arrows: dict[str, set[str]] = {room: set() for room in rooms.values()}
    for folder in ALLOWED:
        for path in _sources(folder):
            arrows[_room(path)] |= {rooms[module] for module in _imported_modules(path) if module in rooms}
    return {room: imported - {room} for room, imported in arrows.items()}


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_imports_point_down_only(folder: str) -> None:
    # `from heal import datasets` also yields "heal" itself, which every folder may import.
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in _sources(folder)
        for module in _imported_modules(path)
        if (layer := _layer(module)) is not None and layer not in ALLOWED[folder]
    ]
    assert wrong == []


def test_rooms_import_each_other_without_a_circle() -> None:
    assert _circle(_arrows()) == []


def _circle(arrows: Mapping[str, set[str]]) -> list[str]:
    """Return rooms that import each other in a circle; empty if there are none."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_the_floors_of_heal_stand_on_those_below() -> None:
    floor_of = {name: floor for floor, names in enumerate(FLOORS) for name in names}
    arrows = {room: to for room, to in _arrows().items() if room.startswith("heal/") and room != "heal/__init__"}
    assert {room.split("/")[1] for room in arrows} == set(floor_of), "every part of heal/ stands on a floor"
    wrong = [
        f"{room} imports {other}"
        for room, imported in arrows.items()
        for other in imported
        if other != "heal/__init__" and floor_of[other.split("/")[1]] > floor_of[room.split("/")[1]]
    ]
    assert wrong == []


def test_only_one_room_names_ray() -> None:
    named = {
        str(path.parent.relative_to(ROOT)) for folder in ALLOWED for path in _sources(folder) if "ray" in _imported_modules(path)
    }
    assert named == {"agents/on_ray"}


def test_the_product_imports_nothing_from_the_tests() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for folder in ALLOWED
        for path in _sources(folder)
        for module in _imported_modules(path)
        if module.split(".")[0] in ("tests", "conftest")
    ]
    assert wrong == []


def test_the_science_needs_torch_and_numpy_only() -> None:
    allowed = {"torch", "numpy", "safetensors", "typing_extensions", "pydantic", "pydantic_core", "yaml", "isal", "heal"}
    # By what works on images, compresses messages or signs them, which models and their training do not import.
    used_late = {"PIL", "timm", "zstandard", "cryptography"}
    foreign = {
        module.split(".")[0]
        for path in _sources("heal")
        for module in _imported_modules(path)
        if module.split(".")[0] not in allowed | used_late | set(sys.stdlib_module_names)
    }
    assert foreign == set()
    probe = f"import sys, heal.collab_model, heal.training.step; assert not {used_late!r} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", probe], check=True, cwd=ROOT)


def test_the_four_folders_are_links_without_a_package_file() -> None:
    for name in LINKED:
        link = ROOT / "heal" / name
        assert link.is_symlink() and link.resolve() == ROOT / name
        assert not (ROOT / name / "__init__.py").exists()


def test_rooms_files_and_functions_stay_small() -> None:
    sources = [path for folder in (*ALLOWED, "tests") for path in _sources(folder)]
    modules = Counter(path.parent for path in sources if path.name != "__init__.py")
    large = [f"{room.relative_to(ROOT)}: {count} modules" for room, count in modules.items() if count > MOST_MODULES]
    assert [*large, *(part for path in sources for part in _large_parts(path))] == []


def _large_parts(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    if (lines := text.count("\n")) > MOST_LINES:
        yield f"{path.relative_to(ROOT)}: {lines} lines"
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    for function in functions:
        if function.end_lineno is not None and (lines := function.end_lineno - function.lineno + 1) > MOST_FUNCTION_LINES:
            yield f"{path.relative_to(ROOT)}: {function.name} has {lines} lines"
