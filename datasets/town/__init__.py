"""The built-in town: a small generated world with traffic, sensed by ray-cast LiDARs and cameras.

The folders hold the geometry (triangles and rays), the world (streets, buildings, traffic) and the sensors (LiDARs, cameras and the
look of surfaces). The modules beside them build one town from a preset and a seed, and give its scenes live or as files.
"""

from heal.datasets.town.preset_choice import town_preset
from heal.datasets.town.presets import PRESETS, TownPreset
from heal.datasets.town.source import TownSource

__all__ = ["PRESETS", "TownPreset", "TownSource", "town_preset"]
