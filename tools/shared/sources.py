"""The scenes of a run: the built-in town, or a data set in a folder."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from heal.datasets.dair.index import data_folder
from heal.datasets.open import open_dataset
from heal.types import SceneSource

TOWN = "town"
TOWN_TICKS = 40
console = Console()


def open_source(source: str, preset: str, split: str | None, ticks: int | None, seed: int) -> SceneSource:
    """Open the built-in town, or a data set; the summary of a data set is printed.

    Args:
        source: "town", or a folder in OPV2V's layout or of DAIR-V2X-C.
        preset: kind of town.
        split: name of the split; None for "test", or "val" in DAIR-V2X-C.
        ticks: number of ticks of the town; None for `TOWN_TICKS`.
        seed: of the town.
    """
    if source == TOWN:
        from heal.datasets.town.source import TownSource

        return TownSource(preset, seed, ticks or TOWN_TICKS, split=split or "test")
    root = Path(source)
    dataset = open_dataset(root, split or ("test" if data_folder(root) is None else "val"))
    console.print(str(dataset.summary), markup=False)
    return dataset
