"""Fill a cache with the scenes of a data set, in several processes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from heal.agents.process import usable_cores
from heal.datasets.cache.filling import Filling, choices_of, fill_held, hold
from heal.datasets.cache.kept import CacheNotWritten
from heal.datasets.cache.source import CachedSource
from heal.datasets.dataset import Dataset, DatasetError
from heal.errors import UserError
from heal.tools.converting.recordings import every_sensor, open_splits, unlisted
from heal.tools.shared.processes import in_processes
from heal.tools.shared.sources import ReadOptions
from heal.tools.terminal.progress import track
from heal.types import Sensor

AT_ONCE = 4  # scenes that a process takes at a time


@dataclass(frozen=True)
class CacheOptions:
    """How a cache is filled.

    Attributes:
        folder: the folder of the cache.
        reading: how the data set is read.
        sensors: the sensors whose data are kept; None for all of which there are files.
        packed: whether images are compressed.
        workers: number of processes; 0 for one per core that the process may use.
    """

    folder: Path
    reading: ReadOptions
    sensors: Collection[Sensor] | None = None
    packed: bool = True
    workers: int = 0


def fill_cache(root: Path, splits: Sequence[str] | None, options: CacheOptions, console: Console) -> None:
    """Fill a cache with a data set, and print what is in it then.

    Raises:
        DatasetError: the folder is no data set, or has none of the splits; or a file cannot be used, and damage is not skipped.
        UserError: the cache cannot be written.
    """
    scenes = damaged = 0
    for split, source in open_splits(root, splits, options.reading, lambda text: console.print(text, markup=False)):
        for scene_id, errors in _fill_split(source, split, options, console):
            scenes, damaged = scenes + 1, damaged + bool(errors)
            for text in dict.fromkeys(map(str, errors)):
                console.print(f"  left out of {scene_id}: {text}", markup=False, soft_wrap=True)
    note = f", {damaged} of them in part" if damaged else ""
    size = sum(path.stat().st_size for path in options.folder.rglob("*") if path.is_file())
    console.print(f"{options.folder}: {scenes} scenes are kept{note}; {size / 1e9:.3g} GB", markup=False, soft_wrap=True)


def _fill_split(source: Dataset, split: str, options: CacheOptions, console: Console) -> Iterator[tuple[str, list[DatasetError]]]:
    """Keep the scenes of a split, with a progress bar; yield the id of each and the errors of what cannot be read."""
    assert isinstance(source, CachedSource), "the reading options name the cache"
    every = every_sensor(source)
    there: dict[Sensor, bool] = {"lidar": every.lidar, "camera": every.cameras, "depth": every.depth}
    sensors = [sensor for sensor, has_files in there.items() if has_files] if options.sensors is None else options.sensors
    source.packed, damage = options.packed, options.reading.on_damage
    filling = Filling(source, choices_of(source, sensors), skip=damage == "skip")
    scenes = unlisted(source, every, damage)
    filled = _filled(filling, scenes, options.workers or usable_cores())
    try:
        for index, errors in zip(scenes, track(filled, f"keeping {split}", len(scenes), console, transient=True), strict=True):
            yield source.listed(index).scene_id, errors
    except CacheNotWritten as error:
        raise UserError(f"{error}; make room, and repeat the command, which goes on from there") from error


def _filled(filling: Filling, scenes: Sequence[int], processes: int) -> Iterator[list[DatasetError]]:
    """Keep scenes, in this process if one is enough; yield the errors of each, in order."""
    parts = [scenes[begin : begin + AT_ONCE] for begin in range(0, len(scenes), AT_ONCE)]
    alone = processes == 1 or len(parts) <= 1
    for found in map(filling.fill, parts) if alone else in_processes(fill_held, parts, processes, partial(hold, filling)):
        yield from found
