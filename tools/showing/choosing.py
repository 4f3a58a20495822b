"""Choose the scenes to look at: by number, the first ones, those of a scenario, or some that are spread over all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heal.datasets.dataset import Dataset
from heal.errors import UserError
from heal.types import SceneSource, recording_of

DEFAULT_SCENES = 10


def choose_scenes(
    source: SceneSource, numbers: str | None = None, first: int | None = None, scenario: str | None = None
) -> list[int]:
    """Return the indices of scenes in a source.

    Args:
        source: the data set, or the town.
        numbers: "0,5,10": numbers of scenes, counted in the scenario if one is named.
        first: only so many scenes from the beginning.
        scenario: only the scenes of this recording.

    Raises:
        UserError: both numbers and `first` are given, a number is none or too large, or there is no such scenario.
    """
    if numbers is not None and first is not None:
        raise UserError("--scenes and --first exclude each other; give one of them")
    found: Sequence[int] = range(len(source)) if scenario is None else _scenes_of(source, scenario)
    if numbers is not None:
        return [found[number] for number in _parsed(numbers, len(found))]
    if first is not None:
        return list(found[:first])
    spread = np.linspace(0, len(found), min(DEFAULT_SCENES, len(found)), endpoint=False)
    return [found[int(place)] for place in spread]


def _scenes_of(source: SceneSource, scenario: str) -> list[int]:
    names = [scenario_of(source, index) for index in range(len(source))]
    if scenario not in names:
        known = list(dict.fromkeys(names))
        listed = ", ".join(known[:12]) + (f" and {len(known) - 12} more" if len(known) > 12 else "")
        raise UserError(f"--scenario: no scenario {scenario!r}; there are {listed}")
    return [index for index, name in enumerate(names) if name == scenario]


def scenario_of(source: SceneSource, index: int) -> str:
    """Return the scenario of a scene, which is the first part of its id: "2021_08_22_21_41_24" of "2021_08_22_21_41_24/000069"."""
    outline = source.listed(index) if isinstance(source, Dataset) else source.outline(index)
    return recording_of(outline.scene_id)


def _parsed(numbers: str, count: int) -> Sequence[int]:
    words = [word.strip() for word in numbers.split(",")]
    wrong = [word for word in words if not (word.isdecimal() and int(word) < count)]
    if wrong:
        raise UserError(f"--scenes: expected numbers from 0 to {count - 1}, separated by commas, got {', '.join(map(repr, wrong))}")
    return [int(word) for word in words]
