"""A cache filled ahead of time, with everything that trainings and runs read of a scene."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from heal.datasets.cache.kept import CacheNotWritten
from heal.datasets.cache.source import CachedSource
from heal.datasets.dataset import Dataset, DatasetError
from heal.types import Sensor, SensorChoice


def choices_of(source: Dataset, sensors: Collection[Sensor]) -> tuple[SensorChoice, ...]:
    """Return the choices that together name all data of some sensors: every cloud, images, depth, and the labels of both kinds."""
    choices = [SensorChoice(lidar=False)]
    if "lidar" in sensors:
        choices += [SensorChoice(beams=beams) for beams in source.beams]
    if "camera" in sensors or "depth" in sensors:
        choices.append(SensorChoice(lidar=False, cameras=True, depth="depth" in sensors, labels="camera"))
    return tuple(choices)


@dataclass(frozen=True)
class Filling:
    """A cache that is filled with some data of the scenes of a split; any number of processes may fill it.

    Attributes:
        source: the split, with its cache.
        choices: what is read of each agent.
        skip: whether to go on after a file that cannot be used.
    """

    source: CachedSource
    choices: tuple[SensorChoice, ...]
    skip: bool = False

    def fill(self, scenes: Sequence[int]) -> list[list[DatasetError]]:
        """Read scenes, so that the cache keeps them from then on; what it keeps already is checked.

        Returns:
            For each scene the errors of what cannot be read, which the cache then lacks.

        Raises:
            CacheNotWritten: an entry cannot be written, for instance because the disk is full.
            DatasetError: a file cannot be used, and damage is not skipped.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("error", CacheNotWritten)
            return [self._errors(index) for index in scenes]

    def _errors(self, index: int) -> list[DatasetError]:
        try:
            self.source.scene_objects(index)
            agent_ids = self.source.outline(index).agent_ids
        except DatasetError as error:
            if not self.skip:
                raise
            return [error]
        reads = [(agent_id, choice) for agent_id in agent_ids for choice in self.choices]
        return [found for read in reads if (found := self._error(index, *read))]

    def _error(self, index: int, agent_id: str, choice: SensorChoice) -> DatasetError | None:
        try:
            self.source.agent_frame(index, agent_id, choice)
        except DatasetError as error:
            if not self.skip:
                raise
            return error
        return None


_held: list[Filling] = []  # in a process of a pool: the one that it works at


def hold(filling: Filling, _number: int) -> None:
    """Take what this process, one of a pool, works at."""
    _held[:] = [filling]


def fill_held(scenes: Sequence[int]) -> list[list[DatasetError]]:
    """Fill the cache that this process has taken, as `Filling.fill` does."""
    return _held[0].fill(scenes)
