"""Open a data set on disk; its folders tell which layout it has."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from heal.datasets.cache.source import CachedSource
from heal.datasets.cooperscene.metadata import COOPERSCENE
from heal.datasets.dair.index import data_folder
from heal.datasets.dair.source import ROADSIDE, VEHICLE, DairSource
from heal.datasets.dataset import Collaboration, Dataset, DatasetError, LabelRule, OnDamage
from heal.datasets.files import LIDAR_ONLY
from heal.datasets.opv2v.dialect import Rules, recognised
from heal.datasets.opv2v.index import find_split_folder
from heal.datasets.opv2v.source import FULL_BEAMS, Opv2vSource
from heal.datasets.split_names import find_split, split_and_collaboration
from heal.datasets.tumtraf.source import TumTrafSource, holds_tumtraf
from heal.datasets.v2v4real.metadata import V2V4REAL
from heal.datasets.v2x_sim.source import V2xSimSource
from heal.datasets.v2x_sim.tables import tables_folder
from heal.datasets.v2xreal.metadata import V2XREAL
from heal.detection.classes import VEHICLES, Classes
from heal.types import Sensor

OPV2V_SPLITS = ("train", "validate", "test")
CULVER_CITY = "test_culvercity"
OPV2V_NAMES = ("OPV2V", "V2XSet")
DIALECTS = (V2V4REAL, V2XREAL, COOPERSCENE)
DAIR_EGOS: dict[Collaboration, str] = {"vc": VEHICLE, "ic": ROADSIDE}


def open_dataset(
    root: Path,
    split: str,
    sensors: Collection[Sensor] = LIDAR_ONLY,
    *,
    ego_id: str | None = None,
    max_agents: int | None = None,
    beams: int = FULL_BEAMS,
    hetero_root: Path | None = None,
    cache: Path | None = None,
    on_damage: OnDamage = "stop",
    intensity_scale: float | None = None,
    ground_truth: LabelRule = "joint",
    classes: Classes = VEHICLES,
) -> Dataset:
    """Open a split of a data set; its folders tell which one it is, see `docs/data.md`.

    Args:
        root: the data set's folder, or the folder that holds OPV2V and OPV2V_Hetero.
        split: "train", "validate" (also "val") or "test"; a `Collaboration` may follow, as in "test:ic".
        sensors: the sensor data that `agent_frame` reads without a choice of the caller's.
        ego_id: the ego; by default the data set's own choice.
        max_agents: the largest number of agents, the ego included; by default 5 for OPV2V, 6 for V2X-Sim, 2 for the others.
        beams: laser lines of the OPV2V clouds that `agent_frame` reads without a choice: 64, 32 or 16.
        hetero_root: the folder of OPV2V's depth images and thinned clouds, see `Opv2vSource`.
        cache: a folder that keeps decoded data, see `CachedSource`; it is made if needed.
        on_damage: stop at OPV2V's scenes without labels, or leave them out; the summary lists them.
        intensity_scale: the value that stands for the intensity 1 in the clouds; by default judged by some of them, see `summary`.
        ground_truth: of DAIR-V2X-C and V2V4Real, see `DairSource` and `Rules`; other agents' labels are always joined by their ids.
        classes: the classes of the objects that are wanted, vehicles alone by default. The labels carry their numbers.

    Raises:
        DatasetError: the folder has no known layout, or the split cannot be used.
    """
    name, mode = split_and_collaboration(split)
    if (reader := _own_reader(root, mode, ground_truth, cache, classes)) is None:
        own = {"hetero_root": hetero_root, "beams": beams, "on_damage": on_damage, "cache": cache}
        root, reader = _opv2v_reader(root, name, mode, ground_truth, classes, own)
    source = reader.open(root, name, sensors, **reader.with_defaults(ego_id, max_agents), intensity_scale=intensity_scale)
    return CachedSource(source, cache) if cache else source


@dataclass(frozen=True)
class _Reader:
    """The reader of a layout.

    Attributes:
        open: opens a split of a folder; its arguments are those of the sources that all of them have.
        agents: the default of the largest number of agents, the ego included.
        ego_id: the ego that a mode of collaboration asks for; None for the data set's own choice.
    """

    open: Callable[..., Dataset]
    agents: int
    ego_id: str | None = None

    def with_defaults(self, ego_id: str | None, max_agents: int | None) -> dict[str, Any]:
        """Return the arguments that choose the agents; what is not given has the reader's default."""
        return {"ego_id": ego_id or self.ego_id, "max_agents": max_agents or self.agents}


def _own_reader(
    root: Path, mode: Collaboration | None, ground_truth: LabelRule, cache: Path | None, classes: Classes
) -> _Reader | None:
    """Return the reader of a data set with a layout of its own; None for a folder that is left to OPV2V's reader.

    Raises:
        DatasetError: the rule of ground truth, or the mode of collaboration, is for another data set.
    """
    if data_folder(root) is not None:
        return _Reader(partial(DairSource, ground_truth=ground_truth, classes=classes), 2, _dair_ego(root, mode))
    if tables_folder(root) is not None:
        _require_own_rules(root, mode, ground_truth, "V2X-Sim's")
        return _Reader(partial(V2xSimSource, cache=cache, classes=classes), 6)
    if holds_tumtraf(root):
        _require_own_rules(root, mode, ground_truth, "TUMTraf-V2X's")
        return _Reader(partial(TumTrafSource, classes=classes), 2)
    return None


def default_split(root: Path) -> str:
    """Return the split that a command opens unless it is told another one: "val" where the labels of "test" are not published."""
    return "val" if data_folder(root) is not None or holds_tumtraf(root) else "test"


def _opv2v_reader(
    root: Path, split: str, mode: Collaboration | None, ground_truth: LabelRule, classes: Classes, own: dict[str, Any]
) -> tuple[Path, _Reader]:
    """Return the folder with the splits of a data set in OPV2V's layout, and its reader, which has some arguments of its own."""
    folder = _opv2v_folder(root)
    rules = Rules(recognised(folder, find_split_folder(folder, split)[0], DIALECTS), mode, ground_truth, classes)
    return folder, _Reader(partial(Opv2vSource, rules=rules, **own), 5)


def _dair_ego(root: Path, collaboration: Collaboration | None) -> str | None:
    """Return the ego of DAIR-V2X-C that a collaboration asks for; DatasetError for one among vehicles or roadside units alone."""
    if collaboration is None:
        return None
    if collaboration not in DAIR_EGOS:
        known = " or ".join(DAIR_EGOS)
        cause = f"collaboration {collaboration}: DAIR-V2X-C has one vehicle and one roadside unit; expected {known}"
        raise DatasetError(root, cause)
    return DAIR_EGOS[collaboration]


def _opv2v_folder(root: Path) -> Path:
    """Return the folder with OPV2V's splits: `root` itself or the only such folder in it; DatasetError if there is none."""
    if not root.is_dir():
        raise DatasetError(root, "no such folder")
    for folder in (root, *(root / name for name in OPV2V_NAMES)):
        if _has_splits(folder):
            return folder
    inside = [path for path in sorted(root.iterdir()) if not path.name.endswith(("_Hetero", "additional")) and _has_splits(path)]
    if len(inside) == 1:
        return inside[0]
    there = ", ".join(sorted(path.name for path in root.iterdir())[:12]) or "nothing"
    raise DatasetError(
        root,
        "neither OPV2V's layout (train, validate, test) nor DAIR-V2X-C's (vehicle-side, infrastructure-side) nor V2X-Sim's "
        f"(v2.0/sample_data.json) nor TUMTraf-V2X's (train/labels_point_clouds); it holds {there}",
    )


def _require_own_rules(root: Path, mode: Collaboration | None, ground_truth: LabelRule, whose: str) -> None:
    """Raise DatasetError for what only other data sets know: modes of collaboration, and the rule "merged" of ground truth."""
    if mode is not None:
        raise DatasetError(root, f"collaboration {mode}: {whose} layout has no such modes; leave it out of the split")
    if ground_truth != "joint":
        rule = f"ground truth {ground_truth!r} is a rule for DAIR-V2X-C and V2V4Real"
        raise DatasetError(root, f"{rule}, and this is {whose} layout; leave it out")


def _has_splits(folder: Path) -> bool:
    """Whether a folder holds a split of OPV2V, under any of the split's names."""
    names = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return CULVER_CITY in names or any(find_split(split, names) for split in OPV2V_SPLITS)
