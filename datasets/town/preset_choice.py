"""Choose a preset by its name, and change its weather or its LiDARs: "demo", "mixed+weather=rain+lidar=spinning128"."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from dataclasses import replace

from heal.datasets.town.presets import PRESETS, TownPreset
from heal.datasets.town.sensors.lidar_kinds import LIDARS
from heal.datasets.town.sensors.weather import WEATHERS
from heal.errors import UserError

# What can be changed: the values that are allowed, and the change.
_CHANGES: dict[str, tuple[Collection[str], Callable[[TownPreset, str], TownPreset]]] = {
    "weather": (WEATHERS, lambda preset, name: replace(preset, weather=name)),
    "lidar": (LIDARS, lambda preset, name: replace(preset, lidars=(name,))),
    "roadside_lidar": (LIDARS, lambda preset, name: replace(preset, roadside_lidars=(name,))),
}


def town_preset(preset: str | TownPreset) -> TownPreset:
    """Return the preset of a text such as "demo" or "demo+weather=rain"; a preset is returned unchanged.

    Changes come after the name, each as +KEY=VALUE in any order: `weather`, `lidar` (of the vehicles), `roadside_lidar`. The preset
    is named by the text, with the changes in alphabetical order. The town and its traffic stay those of the name alone.

    Raises:
        UserError: a name, a key or a value is unknown, or a key is given twice; the message lists what is known.
    """
    if isinstance(preset, TownPreset):
        return preset
    name, *changes = preset.split("+")
    chosen = PRESETS[_known("town preset", name, PRESETS)]
    pairs = [change.partition("=") for change in sorted(changes)]
    for key, _, value in pairs:
        allowed, changed = _CHANGES[_known(f"change of the town preset {name}", key, _CHANGES)]
        chosen = changed(chosen, _known(key, value, allowed))
    if len({key for key, _, _ in pairs}) < len(pairs):
        raise UserError(f"town preset {preset!r}: expected each change once")
    return replace(chosen, name="+".join([name, *sorted(changes)]))


def _known(what: str, name: str, names: Collection[str]) -> str:
    """Return a name; UserError if it is not among `names`."""
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UserError(f"unknown {what} {name!r}; there are {', '.join(names)}{hint}")
    return name
