"""Paths of the shipped configurations, in the checkout and in an installed package."""

from __future__ import annotations

from pathlib import Path

from heal.config import ConfigError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def config_path(name: str) -> Path:
    """Return the path of an existing file, or of a shipped configuration, with or without its suffix .yaml.

    Raises:
        ConfigError: there is neither; the message lists the shipped configurations.
    """
    given = Path(name)
    for candidate in (given, CONFIGS / name, CONFIGS / f"{name}.yaml"):
        if candidate.is_file():
            return candidate
    shipped = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml") if "alliance" not in path.parts)
    raise ConfigError(f"{name}: no such file, and no shipped configuration of that name; there are {', '.join(shipped)}")


def type_path(name: str) -> Path:
    """Return the path of an agent type's file: `config_path`, but a name such as "m1" is looked up in configs/agents first."""
    shipped = CONFIGS / "agents" / f"{name}.yaml"
    return shipped if shipped.is_file() and not Path(name).is_file() else config_path(name)
