"""The settings of a training: of the shipped or own files, of the alliance that it starts from, and of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from heal.alliance import Alliance
from heal.config import ConfigError, apply_overrides, build_config, load_yaml, to_plain
from heal.tools.shared.paths import type_path
from heal.tools.shared.sources import ReadOptions
from heal.training.config import TrainingConfig
from heal.training.own_range import cropped_grid


def resolve_settings(path: Path, initial: Alliance | None, overrides: list[str]) -> TrainingConfig:
    """Return the settings of a stage 1 run: from the initial alliance, if any, overridden by the file, then by the command line.

    Raises:
        ConfigError: a setting is wrong, or belongs to stage 2.
    """
    values: dict[str, Any] = {}
    if initial:
        names = initial.card.training.agent_types or initial.agent_names[:1]
        agents = {name: to_plain(initial.agent_card(name).config) for name in names}
        values = {"base": to_plain(initial.card.config), "agents": agents}
    given = load_yaml(path)
    given["agents"] = {name: _load_type(value) for name, value in given.get("agents", {}).items()}
    if not given["agents"]:
        del given["agents"]
    settings = build_config(TrainingConfig, apply_overrides(_merge(values, given), overrides), str(path))
    if settings.training.range_m or settings.training.fix_encoder:
        raise ConfigError(
            f"{path}: training.range_m and training.fix_encoder are for `heal train agent`; a base learns all of its types, on "
            "base.grid.range_m"
        )
    return settings


def resolve_agent_settings(type_file: Path, alliance: Alliance, path: Path, overrides: list[str]) -> TrainingConfig:
    """Return the settings of a stage 2 run: of the file, with one type and the alliance's frozen base, then the command line.

    The base's grid is cropped to the range that the type maps, or to `training.range_m`: nothing is learnt beyond it.

    Raises:
        ConfigError: a setting is wrong, or would change the base, such as the range that the type would be trained on.
    """
    frozen = {"frozen_base": True, "max_agents": 1, "random_ego": True, "ego_of": "any"}
    values = {"base": to_plain(alliance.card.config), "agents": {type_file.stem: load_yaml(type_file)}, "training": frozen}
    settings = build_config(TrainingConfig, apply_overrides(_merge(load_yaml(path), values), overrides), f"{type_file}, {path}")
    if settings.base != alliance.card.config:
        raise ConfigError(f"--set base...: the base of {alliance.path} is frozen, and an agent type is aligned to it as it is")
    grid = cropped_grid(settings.agents[type_file.stem], settings.base, settings.training.range_m)
    return replace(settings, base=replace(settings.base, grid=grid))


def reading_of(settings: TrainingConfig, options: ReadOptions) -> ReadOptions:
    """Return how a training reads its data: with its rule of ground truth, and with all agents where any of them may be drawn."""
    return replace(options, ground_truth=settings.training.ground_truth, every_agent=settings.training.random_ego)


def _load_type(value: Any) -> Any:
    """Return the settings of an agent type in a config: `value` itself, or the content of the file that `value` names."""
    return load_yaml(type_path(value)) if isinstance(value, str) else value


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested mappings; where both have a value for a key, the value of `over` is used."""
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
