"""YAML files of settings, each of which may build on another one: the file names in, plain nested settings out.

`like: NAME` at the top of a file, or in an entry of its section `agents`, names a file whose settings count where this has none.
So a recipe states only how it differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heal.agent_model import AgentConfig
from heal.config import ConfigError, build_config, load_yaml
from heal.tools.shared.paths import CONFIGS, type_path

LIKE = "like"


def load_settings(path: Path) -> dict[str, Any]:
    """Read the settings of a training, with those of the files that it and its agent types are like.

    If the file names agent types, they take the place of those of the file that it is like.

    Raises:
        ConfigError: a file is missing, is no mapping, or is like itself.
    """
    return _load_training(path, ())


def settings_in(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the settings of a training that are a section of the file `path`; `like` and errors as in `load_settings`."""
    return _resolved(dict(values), path, ())


def type_in(name: str, value: Any, path: Path) -> dict[str, Any]:
    """Return the settings of an agent type that the file `path` names or holds; `like` and errors as in `load_settings`."""
    return _load_entry(name, value, path)


def load_type(path: Path) -> dict[str, Any]:
    """Read the settings of an agent type, with those of the files that it is like; errors as in `load_settings`."""
    return _with_like(load_yaml(path), path, (path.resolve(),))


def read_agent_type(name: str) -> AgentConfig:
    """Read an agent type by the name of its file, or of a shipped one; ConfigError for a file that is no agent type."""
    path = type_path(name)
    return build_config(AgentConfig, load_type(path), str(path))


def laid_over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Join nested settings; where both have a value, that of `over` counts. A section of another `kind` is replaced as a whole."""
    joined = dict(under)
    for key, value in over.items():
        below = joined.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping) and value.get("kind") in (None, below.get("kind"))
        joined[key] = laid_over(joined[key], value) if both else value
    return joined


def _load_training(path: Path, users: Sequence[Path]) -> dict[str, Any]:
    """Read a training's settings; `users` are the files that lead to this one by their `like`."""
    _require_new(path, users)
    return _resolved(load_yaml(path), path, users)


def _resolved(own: dict[str, Any], path: Path, users: Sequence[Path]) -> dict[str, Any]:
    """Lay a training's settings, read from the file `path`, over those of the file that they are like."""
    named = own.pop("agents", None) or {}
    if not isinstance(named, Mapping):
        raise ConfigError(f"{path}: agents: expected a mapping of names to agent types, got {named!r}")
    like = own.pop(LIKE, None)
    under = {} if like is None else _load_training(_find(like, path, (CONFIGS,)), [*users, path.resolve()])
    agents = {name: _load_entry(name, value, path) for name, value in named.items()}
    return laid_over({**under, "agents": {}}, {**own, "agents": agents}) if agents else laid_over(under, own)


def _load_entry(name: str, value: Any, path: Path) -> dict[str, Any]:
    """Return the settings of an entry of `agents`: the name of a type's file, or settings that may be like those of a file."""
    entry = {LIKE: value} if isinstance(value, str) else value
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{path}: agents.{name}: expected the name of a type's file, or a section of its settings, got {value!r}")
    return _with_like(entry, path, ())


def _with_like(values: Mapping[str, Any], path: Path, users: Sequence[Path]) -> dict[str, Any]:
    """Lay the settings of an agent type, read from the file `path`, over those of the type that it is like."""
    own = dict(values)
    like = own.pop(LIKE, None)
    if like is None:
        return own
    file = _find(like, path, (CONFIGS / "agents", CONFIGS))
    _require_new(file, users)
    return laid_over(_with_like(load_yaml(file), file, [*users, file.resolve()]), own)


def _find(name: Any, path: Path, places: Sequence[Path]) -> Path:
    """Return the file that a `like` names: beside the file that says so, a shipped one, or a path from the working directory."""
    for place in (path.parent, *places, Path()):
        for candidate in (place / str(name), place / f"{name}.yaml"):
            if candidate.is_file():
                return candidate
    looked = ", ".join(map(str, (path.parent, *places, "the working directory")))
    raise ConfigError(f"{path}: like: expected the name of a YAML file in one of {looked}; there is no {name!r}")


def _require_new(path: Path, users: Sequence[Path]) -> None:
    """Raise ConfigError if a file is like a file that is like it."""
    if path.resolve() in users:
        raise ConfigError(f"{path}: like: the file is like itself, by way of {' and '.join(user.name for user in users)}")
