"""The built-in town: a small generated world with traffic, sensed by ray-cast LiDARs and cameras."""

from heal.datasets.town.presets import PRESETS, TownPreset, town_preset
from heal.datasets.town.source import TownSource

__all__ = ["PRESETS", "TownPreset", "TownSource", "town_preset"]
