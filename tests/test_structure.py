"""The shape of the code base: which way imports point, how long files and functions are, where the four folders lie."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("heal", "agents", "datasets", "configs", "tools")
ALLOWED = {
    "heal": {"heal"},
    "agents": {"heal", "agents"},
    "datasets": {"heal", "datasets"},
    "tools": {"heal", "agents", "datasets", "tools"},
}


def _sources(folder: str) -> list[Path]:
    """All Python files of a top-level folder, without those that lie behind the links in heal/."""
    linked = {ROOT / "heal" / name for name in FOLDERS}
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
    if parts[0] in ("agents", "datasets", "tools", "configs"):
        return f"top-level {parts[0]}"
    if parts[0] != "heal":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in ALLOWED else "heal"


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


def test_only_agents_names_ray() -> None:
    named = {
        path.relative_to(ROOT).parts[0] for folder in ALLOWED for path in _sources(folder) if "ray" in set(_imported_modules(path))
    }
    assert named <= {"agents"}


def test_the_science_needs_torch_and_numpy_only() -> None:
    import sys

    allowed = {"torch", "numpy", "safetensors", "typing_extensions", "pydantic", "pydantic_core", "yaml", "isal", "heal"}
    used_late = {"PIL", "timm", "zstandard"}  # by what works on images or compresses messages, inside of functions
    foreign = {
        module.split(".")[0]
        for path in _sources("heal")
        for module in _imported_modules(path)
        if module.split(".")[0] not in allowed | used_late | set(sys.stdlib_module_names)
    }
    assert foreign == set()
    probe = f"import sys, heal.collab, heal.augment; assert not {used_late!r} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", probe], check=True, cwd=ROOT)


def test_the_four_folders_are_links_without_a_package_file() -> None:
    for name in ("agents", "datasets", "configs", "tools"):
        link = ROOT / "heal" / name
        assert link.is_symlink() and link.resolve() == ROOT / name
        assert not (ROOT / name / "__init__.py").exists()


def test_files_and_functions_stay_short() -> None:
    long = []
    for folder in (*ALLOWED, "tests"):
        for path in _sources(folder):
            text = path.read_text(encoding="utf-8")
            if text.count("\n") > 400:
                long.append(f"{path.relative_to(ROOT)}: {text.count(chr(10))} lines")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno is not None:
                    lines = node.end_lineno - node.lineno + 1
                    if lines > 40:
                        long.append(f"{path.relative_to(ROOT)}: {node.name} has {lines} lines")
    assert long == []
