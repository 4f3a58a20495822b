"""Read all scenes of a split in several processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from heal.datasets.dataset import Dataset
from heal.datasets.doctor.checkup import walk_in_turn
from heal.datasets.doctor.facts import Installed, SceneReport
from heal.datasets.doctor.scene import examine
from heal.datasets.doctor.survey import judged_scenes
from heal.tools.shared.processes import in_processes

AT_ONCE = 8  # scenes that a process takes at a time


@dataclass(frozen=True)
class _Ward:
    """What a process reads.

    Attributes:
        source: the split.
        installed: its sensor data.
        judged: the scenes whose boxes are counted.
    """

    source: Dataset
    installed: Installed
    judged: set[int]

    def examine(self, scenes: range) -> list[SceneReport]:
        """Read some scenes."""
        return [examine(self.source, index, self.installed, index in self.judged) for index in scenes]


_wards: list[_Ward] = []  # in a process of the pool: the one that it reads


def walk(source: Dataset, installed: Installed, processes: int) -> Iterator[SceneReport]:
    """Yield a report of every scene, in order; in this process if there is but one."""
    parts = [range(begin, min(begin + AT_ONCE, len(source))) for begin in range(0, len(source), AT_ONCE)]
    if processes == 1 or len(parts) == 1:
        yield from walk_in_turn(source, installed)
        return
    ward = _Ward(source, installed, judged_scenes(source))
    for reports in in_processes(_examine, parts, processes, partial(_take, ward)):
        yield from reports


def _take(ward: _Ward, number: int) -> None:
    """Keep the split, in a process of the pool."""
    _wards.append(ward)


def _examine(scenes: range) -> list[SceneReport]:
    return _wards[0].examine(scenes)
