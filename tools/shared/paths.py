"""Where things are: the shipped configurations, also when the package is installed from a wheel."""

from __future__ import annotations

from pathlib import Path

from heal.config import ConfigError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def config_path(name: str) -> Path:
    """A file that exists as given, or the shipped configuration of that name; ConfigError lists those otherwise."""
    given = Path(name)
    for candidate in (given, CONFIGS / name, CONFIGS / f"{name}.yaml"):
        if candidate.is_file():
            return candidate
    shipped = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml") if "alliance" not in path.parts)
    raise ConfigError(f"{name}: no such file, and no shipped configuration of that name; there are {', '.join(shipped)}")


def type_path(name: str) -> Path:
    """The file of an agent type: one that exists as given, or a shipped one, in configs/agents or elsewhere in configs."""
    shipped = CONFIGS / "agents" / f"{name}.yaml"
    return shipped if shipped.is_file() and not Path(name).is_file() else config_path(name)
