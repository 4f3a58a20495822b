"""The data sets of a comparison: those of the built-in town are written first; out come their folders and splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from heal.datasets.assignment import Assignment
from heal.datasets.dataset import Dataset
from heal.detection.classes import VEHICLES, Classes
from heal.tools.comparing.plan import data_key
from heal.tools.comparing.spec import FolderData, TownData
from heal.tools.generate import SensorSet, TownChoice, camera_options, plan_scenarios, write_scenarios
from heal.tools.shared.scoring import spread_evenly
from heal.tools.shared.sources import ReadOptions

WRITTEN = "written"  # a file that says that all scenes of a town are there


@dataclass(frozen=True)
class DataFolder:
    """A data set on disk.

    Attributes:
        root: its folder.
        train: the split to train on.
        val: the split to validate on; None for "validate", if there is one.
        test: the split to evaluate on.
        frames: number of scenes to evaluate; None for all.
        reading: how it is read.
    """

    root: Path
    train: str
    val: str | None
    test: str
    frames: int | None
    reading: ReadOptions

    def open_test(self, classes: Classes = VEHICLES) -> tuple[Dataset, list[int]]:
        """Open the scenes to evaluate, with the objects of some classes; return them with the indices of those to evaluate."""
        source = replace(self.reading, classes=classes).open(self.root, self.test)
        return source, spread_evenly(range(len(source)), self.frames or len(source))


def folder_of(data: TownData | FolderData, out: Path) -> DataFolder:
    """Return where a data set lies, or will lie, in a comparison in the folder `out`."""
    if isinstance(data, FolderData):
        reading = ReadOptions(ground_truth=data.ground_truth)
        return DataFolder(Path(data.root).absolute(), data.train, data.val, data.test, data.frames, reading)
    key = data_key(data, training=True)[:8] + data_key(data, training=False)[:8]
    return DataFolder(out / "data" / f"town-{key}", "train", None, "test", None, ReadOptions())


def write_town(data: TownData, root: Path, workers: int, console: Console) -> None:
    """Write the scenes of a town, unless they are there; an interrupted writing is taken up where it stopped."""
    if (root / WRITTEN).exists():
        return
    sensors = SensorSet(data.sensors)
    cameras = camera_options(sensors, data.image_px, data.smooth, data.camera_agents, 1.0)
    for split, frames in (("train", data.train_frames), ("test", data.test_frames)):
        towns = TownChoice(data.preset, split, frames, data.seed, data.frames_per_town)
        write_scenarios(plan_scenarios(root, towns, sensors, cameras), workers, console)
    (root / WRITTEN).touch()


def assigned(source: Dataset, types: Sequence[str], rotate: bool) -> Assignment:
    """Give the agents of every recording types in turn; with `rotate` each recording begins with the type after the last one's."""
    recordings = sorted(source.scenario_agents)
    turned = [[*types[i % len(types) :], *types[: i % len(types)]] if rotate else list(types) for i in range(len(recordings))]
    return Assignment(
        {
            name: Assignment.in_order({name: source.scenario_agents[name]}, order).types[name]
            for name, order in zip(recordings, turned, strict=True)
        }
    )
