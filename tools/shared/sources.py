"""The scenes of a run: the built-in town, or a data set in a folder, and what to do about damaged files."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

from heal.agent_types import TypesOf
from heal.agents.options import RunOptions
from heal.alliance import Alliance
from heal.datasets.damage import Reads, find_damaged, require_files, require_images
from heal.datasets.damage_list import known_damaged, read_damage_list
from heal.datasets.dataset import Dataset, DatasetError, DatasetSummary, LabelRule, OnDamage
from heal.datasets.open import default_split, open_dataset
from heal.detection.classes import VEHICLES, Classes
from heal.errors import UserError
from heal.tools.terminal.progress import track
from heal.types import SceneOutline, SceneSource, SensorChoice

TOWN = "town"
TOWN_TICKS = 40
console = Console()


@dataclass(frozen=True)
class ReadOptions:
    """How a command reads a data set, as its options say.

    Attributes:
        on_damage: what becomes of scenes with missing or damaged files, "stop" or "skip"; or a list of `heal doctor`, whose scenes
            are left out, while other damage stops the run.
        intensity_scale: the value that stands for the intensity 1 in the clouds; None to judge it by some of them.
        cache: folder that keeps decoded data; None for no cache.
        ground_truth: of DAIR-V2X-C, "joint" or "merged".
        every_agent: whether all agents of a scene are listed, whatever their number, because any of them may become the ego.
        classes: the classes of the objects that are wanted, those of the base.
    """

    on_damage: OnDamage | Path = "stop"
    intensity_scale: float | None = None
    cache: Path | None = None
    ground_truth: LabelRule = "joint"
    every_agent: bool = False
    classes: Classes = VEHICLES

    @staticmethod
    def of(
        on_damage: str,
        intensity_scale: float | None,
        cache: Path | None = None,
        ground_truth: str = "joint",
        *,
        every_agent: bool = False,
    ) -> ReadOptions:
        """Take the options of a command line; UserError for an unknown `on_damage` or `ground_truth`."""
        damages: dict[str, OnDamage | Path] = {name: name for name in get_args(OnDamage)}
        if Path(on_damage).is_file():
            damages[on_damage] = Path(on_damage).absolute()
        rules: dict[str, LabelRule] = {name: name for name in get_args(LabelRule)}
        if on_damage not in damages:
            known = ", ".join(damages)
            raise UserError(f"--on-damage: expected {known} or a list that heal doctor has written, got {on_damage!r}")
        if ground_truth not in rules:
            raise UserError(f"--ground-truth: expected {' or '.join(rules)}, got {ground_truth!r}")
        return ReadOptions(damages[on_damage], intensity_scale, cache and cache.absolute(), rules[ground_truth], every_agent)

    @staticmethod
    def of_command(given: Mapping[str, Any]) -> ReadOptions:
        """Take the options of a command line by name; a command may lack `cache`. UserError as for `of`."""
        cache, every_agent = given.get("cache"), bool(given["ego_type"])
        rules = given["on_damage"], given["intensity_scale"], cache and Path(cache), given["ground_truth"]
        return ReadOptions.of(*rules, every_agent=every_agent)

    def open(self, root: Path, split: str) -> Dataset:
        """Open a split of a data set."""
        return open_dataset(
            root,
            split,
            max_agents=sys.maxsize if self.every_agent else None,
            cache=self.cache,
            on_damage="skip" if isinstance(self.on_damage, Path) else self.on_damage,
            intensity_scale=self.intensity_scale,
            ground_truth=self.ground_truth,
            classes=self.classes,
        )

    def open_and_show(self, root: Path, split: str) -> Dataset:
        """Open a split of a data set, and print its summary."""
        dataset = self.open(root, split)
        console.print(str(dataset.summary), markup=False)
        return dataset


def open_source(
    source: str,
    preset: str,
    split: str | None,
    ticks: int | None,
    seed: int,
    options: ReadOptions | None = None,
    *,
    quiet: bool = False,
) -> SceneSource:
    """Open the built-in town, or a data set; the summary of a data set is printed unless `quiet`.

    Args:
        source: "town", or the folder of a data set that `open_dataset` knows.
        preset: kind of town.
        split: name of the split; None for that of `default_split`.
        ticks: number of ticks of the town; None for `TOWN_TICKS`.
        seed: of the town.
        options: how a data set is read; of the town only the classes of the objects.
        quiet: print nothing.
    """
    reading = options or ReadOptions()
    if source == TOWN:
        from heal.datasets.town.source import TownSource

        if reading.ground_truth != "joint":
            raise UserError(f"--ground-truth {reading.ground_truth}: a rule for DAIR-V2X-C, and the source is the town")
        return TownSource(preset, seed, ticks or TOWN_TICKS, split=split_name(source, split), classes=reading.classes)
    return (reading.open if quiet else reading.open_and_show)(Path(source), split_name(source, split))


def split_name(source: str, split: str | None) -> str:
    """Return the split that `open_source` opens: the given one, or its default."""
    return split or ("test" if source == TOWN else default_split(Path(source)))


def source_name(source: str, preset: str) -> str:
    """Return how a source is recorded: a folder as it is given, the town with its preset."""
    return f"{TOWN}, preset {preset}" if source == TOWN else source


def sensors_of(alliance: Alliance, types_of: TypesOf, options: RunOptions) -> Reads:
    """Return which sensor data a run reads of a scene: of every agent those of its type, with the laser lines of the run."""

    def reads(outline: SceneOutline) -> list[tuple[str, SensorChoice]]:
        types = types_of(outline).items()
        return [(agent_id, options.sensor_of(name, alliance.agent(name).sensor)) for agent_id, name in types]

    return reads


def choose_scenes(
    source: Dataset, scenes: Sequence[int], reads: Reads, on_damage: OnDamage | Path
) -> tuple[list[int], DatasetSummary]:
    """Return the scenes that can be read, and the summary of the data set without the others, which are printed.

    With "stop" no file is read: a damaged one ends the run when its turn comes. With "skip" every file is read. A list of `heal
    doctor` leaves out its scenes without reading them, and the others are treated as with "stop".

    Raises:
        DatasetError: files are missing that are neither listed nor to be skipped; no scene can be read; or there are no images.
    """
    require_images(source, scenes, reads)
    if on_damage == "stop":
        require_files(source, scenes, reads)
        return list(scenes), source.summary
    if isinstance(on_damage, Path):
        damaged = known_damaged(source, scenes, reads, read_damage_list(on_damage, source.summary.root))
        require_files(source, [index for index in scenes if index not in damaged], reads)
    else:
        damaged = find_damaged(source, track(scenes, "reading every file", len(scenes), console, transient=True), reads)
    for name, damage in damaged.values():
        console.print(f"  skipped {name}: {damage}", markup=False, soft_wrap=True)
    if damaged:
        console.print(f"{len(damaged)} of {len(scenes)} scenes are left out")
    if len(damaged) == len(scenes):
        raise DatasetError(source.summary.root, "no scene is left")
    return [index for index in scenes if index not in damaged], source.summary.without(list(damaged.values()))
