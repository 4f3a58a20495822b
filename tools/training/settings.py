"""The settings of a training: of the shipped or own files, of the alliance that it starts from, and of the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from heal.alliance import Alliance
from heal.config import ConfigError, apply_overrides, build_config, to_plain
from heal.tools.shared.setting_files import laid_over, load_settings, load_type
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
    settings = build_config(TrainingConfig, apply_overrides(laid_over(values, load_settings(path)), overrides), str(path))
    if settings.training.range_m or settings.training.fix_encoder:
        raise ConfigError(
            f"{path}: training.range_m and training.fix_encoder are for `heal train agent`; a base learns all of its types, on "
            "base.grid.range_m"
        )
    _require_no_compressor(settings, path)
    return settings


def resolve_agent_settings(type_file: Path, alliance: Alliance, path: Path, overrides: list[str]) -> TrainingConfig:
    """Return the settings of a stage 2 run: of the file, with one type and the alliance's frozen base, then the command line.

    Settings of the type in the file's section `agents` count before those of the type's own file. The base's grid is cropped to the
    range that the type maps, or to `training.range_m`: nothing is learnt beyond it.

    Raises:
        ConfigError: a setting is wrong, is for another type, or would change the base, such as the range that the type would be
            trained on.
    """
    given, name = load_settings(path), type_file.stem
    meant = given.pop("agents", {})
    if meant and set(meant) != {name}:
        raise ConfigError(f"{path} is for the type {' and '.join(meant)}, got {name}: expected --type {next(iter(meant))}")
    agents = {name: laid_over(load_type(type_file), meant.get(name, {}))}
    frozen = {"frozen_base": True, "max_agents": 1, "random_ego": True, "ego_of": "any"}
    values = {"base": to_plain(alliance.card.config), "agents": agents, "training": frozen}
    settings = build_config(TrainingConfig, apply_overrides(laid_over(given, values), overrides), f"{type_file}, {path}")
    if settings.base != alliance.card.config:
        raise ConfigError(f"--set base...: the base of {alliance.path} is frozen, and an agent type is aligned to it as it is")
    if not settings.training.frozen_base:
        raise ConfigError(
            "--set training.frozen_base=false: an agent type is aligned to the base as it is; train all by `heal train base`"
        )
    _require_no_compressor(settings, path)
    grid = cropped_grid(settings.agents[name], settings.base, settings.training.range_m)
    return replace(settings, base=replace(settings.base, grid=grid))


def _require_no_compressor(settings: TrainingConfig, path: Path) -> None:
    """Raise ConfigError for a compressor beside a base or a type: it alone would learn, and would not be stored."""
    if settings.compressor_ratio is not None:
        raise ConfigError(f"{path}: compressor_ratio is for `heal train compressor --ratio {settings.compressor_ratio}`")


def reading_of(settings: TrainingConfig, options: ReadOptions) -> ReadOptions:
    """Return how a training reads its data.

    The base's classes are read by the training's rule of ground truth, with all agents where any of them may be drawn.
    """
    training, classes = settings.training, settings.base.object_classes
    return replace(options, ground_truth=training.ground_truth, every_agent=training.random_ego, classes=classes)
