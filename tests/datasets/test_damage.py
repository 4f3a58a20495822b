"""Missing and damaged files of a data set: found before a run, named, and left out with their scene; unused files do not matter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from heal.datasets.damage import ChosenScenes, Reads, find_damaged, require_files
from heal.datasets.dataset import MOST_LISTED, Dataset, DatasetError
from heal.datasets.open import open_dataset
from heal.types import Sensor, SensorChoice
from tests.datasets.dair import dair_tree
from tests.datasets.opv2v import opv2v_tree

OPV2V_AGENT, DAIR_SIDE = "test/scenario_a/650", f"{dair_tree.INNER}/infrastructure-side"
LIDAR: tuple[Sensor, ...] = ("lidar",)
CAMERA: tuple[Sensor, ...] = ("camera",)
# Layout, the sensors in use, a file of the second of two scenes that is needed for them.
NEEDED = [
    ("opv2v", LIDAR, f"{OPV2V_AGENT}/000070.pcd"),
    ("opv2v", CAMERA, f"{OPV2V_AGENT}/000070_camera0.png"),
    ("opv2v", ("depth",), f"../OPV2V_Hetero/{OPV2V_AGENT}/000070_depth0.png"),
    ("dair", LIDAR, f"{DAIR_SIDE}/velodyne/000004.pcd"),
    ("dair", LIDAR, f"{DAIR_SIDE}/calib/virtuallidar_to_world/000004.json"),
    ("dair", LIDAR, f"{DAIR_SIDE}/label/virtuallidar/000004.json"),
    ("dair", LIDAR, f"{dair_tree.INNER}/cooperative/label_world/000011.json"),
    ("dair", CAMERA, f"{DAIR_SIDE}/image/000004.jpg"),
    ("dair", CAMERA, f"{DAIR_SIDE}/calib/camera_intrinsic/000004.json"),
    ("dair", CAMERA, f"{DAIR_SIDE}/calib/virtuallidar_to_camera/000004.json"),
]
# The same for files that no agent needs.
UNUSED = [
    ("opv2v", LIDAR, f"{OPV2V_AGENT}/000070_camera0.png"),
    ("opv2v", CAMERA, f"{OPV2V_AGENT}/000070.pcd"),
    ("dair", LIDAR, f"{DAIR_SIDE}/image/000004.jpg"),
    ("dair", LIDAR, f"{DAIR_SIDE}/calib/virtuallidar_to_camera/000004.json"),
    ("dair", CAMERA, f"{DAIR_SIDE}/velodyne/000004.pcd"),
]


def empty(path: Path) -> None:
    path.write_bytes(b"")


def write(layout: str, folder: Path) -> Path:
    """Write a data set of two scenes."""
    if layout == "dair":
        root = dair_tree.write_tree(folder)
        dair_tree.write_json(root / "val.json", ["000010", "000011"])
        return root
    root = opv2v_tree.write_tree(folder)
    for image in root.rglob("*_camera0.png"):
        depth = root.with_name("OPV2V_Hetero") / image.relative_to(root).with_name(image.name.replace("camera", "depth"))
        depth.parent.mkdir(parents=True, exist_ok=True)
        opv2v_tree.Image.new("L", (8, 6)).save(depth)
    return root


def opened(layout: str, root: Path, cache: Path | None = None) -> Dataset:
    return open_dataset(root, "val" if layout == "dair" else "test", cache=cache)


def reading(sensors: tuple[Sensor, ...]) -> Reads:
    choice = SensorChoice.of(sensors)
    return lambda outline: [(agent_id, choice) for agent_id in outline.agent_ids]


@pytest.mark.parametrize(("layout", "sensors", "name"), NEEDED)
def test_a_missing_file_is_known_before_the_run(tmp_path: Path, layout: str, sensors: tuple[Sensor, ...], name: str) -> None:
    root = write(layout, tmp_path)
    source = opened(layout, root)
    require_files(source, range(2), reading(sensors))
    (root / name).unlink()
    require_files(source, [0], reading(sensors))
    with pytest.raises(DatasetError, match=rf"{Path(name).name}: no such file.*--on-damage skip"):
        require_files(source, range(2), reading(sensors))


@pytest.mark.parametrize("damage", [Path.unlink, empty])
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(("layout", "sensors", "name"), NEEDED)
def test_a_damaged_file_costs_its_scene(
    tmp_path: Path, layout: str, sensors: tuple[Sensor, ...], name: str, cached: bool, damage: Callable[[Path], None]
) -> None:
    root = write(layout, tmp_path / "data")
    source = opened(layout, root, tmp_path / "cache" if cached else None)
    assert find_damaged(source, range(2), reading(sensors)) == {}
    damage(root / name)
    damaged = find_damaged(source, range(2), reading(sensors))
    assert list(damaged) == [1] and damaged[1][0] == source.outline(1).scene_id and Path(name).name in damaged[1][1]
    rest = ChosenScenes(source, [index for index in range(2) if index not in damaged])
    frame = rest.agent_frame(0, rest.outline(0).agent_ids[1], SensorChoice.of(sensors))
    assert len(rest) == 1 and frame.agent_id in source.outline(0).agent_ids
    summary = source.summary.without(list(damaged.values()))
    assert (summary.frames, summary.damaged, summary.record()["skipped"][-1]) == (1, 1, damaged[1])


@pytest.mark.parametrize(("layout", "sensors", "name"), UNUSED)
def test_files_of_other_sensors_do_not_matter(tmp_path: Path, layout: str, sensors: tuple[Sensor, ...], name: str) -> None:
    root = write(layout, tmp_path)
    (root / name).unlink()
    source = opened(layout, root)
    require_files(source, range(2), reading(sensors))
    assert find_damaged(source, range(2), reading(sensors)) == {}


def test_damaged_metadata_cost_their_scene_whatever_the_sensors(tmp_path: Path) -> None:
    root = write("opv2v", tmp_path)
    source = opened("opv2v", root)
    empty(root / OPV2V_AGENT / "000068.yaml")
    for sensors in (LIDAR, CAMERA):
        assert list(find_damaged(source, range(2), reading(sensors))) == [0]
    with pytest.raises(DatasetError, match=r"000068\.yaml: expected a mapping"):
        require_files(source, range(2), reading(CAMERA))


def test_a_long_list_is_cut_and_counted(tmp_path: Path) -> None:
    stamps = tuple(f"{number:06d}" for number in range(MOST_LISTED + 5))
    root = opv2v_tree.write_tree(tmp_path, ("641",), stamps)
    source = open_dataset(root, "test")
    for path in root.rglob("*.pcd"):
        path.unlink()
    with pytest.raises(DatasetError, match="and 5 more files") as caught:
        require_files(source, range(len(source)), reading(LIDAR))
    assert str(caught.value).count("no such file") == MOST_LISTED
