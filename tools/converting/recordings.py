"""The recordings to convert: the scenarios of a data set's splits, or bags of ROS 2, each with its scenes in order of time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heal.datasets.damage import has_images, of_every_agent
from heal.datasets.damage_list import known_damaged, read_damage_list
from heal.datasets.dataset import Dataset, DatasetError, OnDamage
from heal.datasets.open import CULVER_CITY, OPV2V_SPLITS
from heal.datasets.ros.reader import BagScenes, bag_name, is_bag
from heal.datasets.split_names import NoSplitError, find_split, names_of
from heal.detection.classes import VEHICLES, Classes, classes_key
from heal.errors import UserError
from heal.tools.shared.sources import ReadOptions
from heal.types import Scene, Sensor, SensorChoice, load_scene, recording_of

if TYPE_CHECKING:
    from heal.datasets.ros.layout import BagOptions

SPLITS = (*OPV2V_SPLITS, CULVER_CITY)
_IMAGES: tuple[Sensor, ...] = ("camera", "depth")


@dataclass(frozen=True)
class Recording:
    """One scenario to convert.

    Attributes:
        split: the split that it goes to: train, validate, test or test_culvercity.
        name: its name.
        count: number of its scenes; of a bag, at most.
        labelled: whether its scenes have labels.
        made_from: what it is made from; a conversion that was made from something else is not taken for this one.
        scenes: reads the scenes one by one.
        left_out: what `scenes` has left out, in lines; complete when all scenes have been read.
        left_handed: whether the world is left-handed as far as the data set's layout tells.
        classes: the classes of the objects.
    """

    split: str
    name: str
    count: int
    labelled: bool
    made_from: Mapping[str, Any]
    scenes: Callable[[], Iterator[Scene]]
    left_out: list[str] = field(default_factory=list)
    left_handed: bool = False
    classes: Classes = VEHICLES


def recordings_of_dataset(
    root: Path, splits: Sequence[str] | None, reading: ReadOptions, show: Callable[[str], None]
) -> list[Recording]:
    """Return the recordings of a data set.

    Args:
        root: the data set.
        splits: the splits to convert; None for all.
        reading: how the data set is read.
        show: is given the summary of each split.

    Raises:
        DatasetError: the folder is no data set, or has none of the splits.
    """
    found: list[Recording] = []
    for split, source in open_splits(root, splits, reading, show):
        found += _recordings_of_split(source, _canonical(split), reading.on_damage)
    if not found:
        raise DatasetError(root, "there is nothing to convert")
    return found


def open_splits(
    root: Path, splits: Sequence[str] | None, reading: ReadOptions, show: Callable[[str], None]
) -> Iterator[tuple[str, Dataset]]:
    """Open splits of a data set, one after the other, as `recordings_of_dataset` does; yield the name and the split."""
    missing: DatasetError | None = None
    opened = 0
    for split in splits or SPLITS:
        try:
            source = reading.open(root, split)
        except NoSplitError as error:
            if splits:
                raise
            missing = error
            continue
        show(str(source.summary))
        yield split, source
        opened += 1
    if missing and not opened:
        raise missing


def recordings_of_bags(bags: Sequence[tuple[str, Path]], options: BagOptions) -> list[Recording]:
    """Return a recording for each bag, given with its split; every bag is looked through, but its data are not read yet."""
    return [_recording_of_bag(split, BagScenes(path, options)) for split, path in bags]


def find_bags(root: Path, splits: Sequence[str] | None) -> list[tuple[str, Path]]:
    """Return the bags of a root with the split of each; none if the root is something else.

    The root is a bag; or it holds bags; or it holds a folder of bags for each split. Bags outside of such a folder belong to the
    one split that is given, or to train.

    Raises:
        UserError: bags of no split, and more than one split is given for them.
    """
    inside = sorted(root.iterdir()) if root.is_dir() else []
    loose = [root] if is_bag(root) else [path for path in inside if is_bag(path)]
    if loose:
        if splits and len(splits) > 1:
            raise UserError(f"--split {','.join(splits)}: expected one split, because {root} does not divide its bags into splits")
        return [(_canonical(splits[0]) if splits else "train", path) for path in loose]
    folders = [path for path in inside if path.is_dir()]
    chosen = [name for split in splits or SPLITS if (name := find_split(split, [path.name for path in folders]))]
    return [(_canonical(name), path) for name in chosen for path in sorted((root / name).iterdir()) if is_bag(path)]


def _recording_of_bag(split: str, bag: BagScenes) -> Recording:
    name, left_out = bag_name(bag.path), list[str]()

    def scenes() -> Iterator[Scene]:
        yield from bag.scenes()
        left_out.extend(f"{name}: {note}" for note in bag.notes)

    agents, classes = [agent.agent_id for agent in bag.layout.agents], bag.options.classes
    made_from = {"bag": name, "clouds": bag.clouds, "agents": agents, **_classes_record(classes)}
    return Recording(split, name, bag.clouds, bag.layout.labelled, made_from, scenes, left_out, classes=classes)


def _classes_record(classes: Classes) -> dict[str, list[str]]:
    """Return the classes for the record of what a recording is made from; nothing for vehicles alone."""
    key = classes_key(classes)
    return {"classes": list(key)} if key else {}


def _recordings_of_split(source: Dataset, split: str, on_damage: OnDamage | Path) -> list[Recording]:
    """Return the scenarios of an opened split."""
    labelled, choice = _is_labelled(source), every_sensor(source)
    listed = {index: source.listed(index) for index in unlisted(source, choice, on_damage)}
    groups: dict[str, list[int]] = {}
    for index in sorted(listed, key=lambda index: listed[index].timestamp_ns):
        groups.setdefault(recording_of(listed[index].scene_id) or split, []).append(index)
    layout, split_on_disk = source.summary.layout, source.summary.split
    found = []
    for group, indices in sorted(groups.items()):
        left_out: list[str] = []
        content = {"scenes": len(indices), "sensors": asdict(choice), **_classes_record(source.classes)}
        made_from = {"layout": layout, "split": split_on_disk, "scenario": group, **content}
        scenes = _reading(source, indices, choice, on_damage, left_out)
        name, is_left = group.replace("/", "_"), layout == "OPV2V"
        found.append(Recording(split, name, len(indices), labelled, made_from, scenes, left_out, is_left, source.classes))
    return found


def unlisted(source: Dataset, choice: SensorChoice, on_damage: OnDamage | Path) -> list[int]:
    """Return the scenes of a split that no list of `heal doctor` leaves out, of which a choice is read."""
    scenes = list(range(len(source)))
    if not isinstance(on_damage, Path):
        return scenes
    known = read_damage_list(on_damage, source.summary.root)
    listed = known_damaged(source, scenes, of_every_agent(choice), known)
    return [index for index in scenes if index not in listed]


def _reading(
    source: Dataset, indices: list[int], choice: SensorChoice, on_damage: OnDamage | Path, left_out: list[str]
) -> Callable[[], Iterator[Scene]]:
    """Return a function that reads scenes; those that cannot be read are left out if damage may be skipped."""

    def scene_or_none(index: int) -> Scene | None:
        try:
            return load_scene(source, index, choice)
        except DatasetError as error:
            if on_damage != "skip":
                raise
            left_out.append(f"left out {source.listed(index).scene_id}: {error}")
            return None

    return lambda: (scene for index in indices if (scene := scene_or_none(index)) is not None)


def _is_labelled(source: Dataset) -> bool:
    """Whether any scene of a split has an object, or labels that cannot be read."""
    try:
        return any(len(source.scene_objects(index)) for index in range(len(source)))
    except DatasetError:
        return True


def every_sensor(source: Dataset) -> SensorChoice:
    """Return the choice of all sensors of which the first scene has files."""
    return SensorChoice.of(["lidar", *(sensor for sensor in _IMAGES if has_images(source, [0], depth=sensor == "depth"))])


def _canonical(split: str) -> str:
    """Return the name that OPV2V has for a split, such as "validate" for "val"; the name itself if OPV2V has none."""
    return next((name for name in OPV2V_SPLITS if name in names_of(split)), split)
