"""Notations of DAIR-V2X-C's files that people meet: paths, ids, times, offsets, labels and calibrations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heal.datasets.dair.calibration import rigid_camera
from heal.datasets.dair.index import read_dair_split
from heal.datasets.dair.source import DairSource
from heal.datasets.dataset import DatasetError
from heal.types import AgentFrame, SensorChoice, load_scene
from tests.datasets.dair.dair_tree import INNER, label, world_label, write_json, write_pair, write_tree

VEHICLE, ROADSIDE, COOPERATIVE = (
    f"{INNER}/{side}/data_info.json" for side in ("vehicle-side", "infrastructure-side", "cooperative")
)
NAN = float("nan")
MIRROR = {"rotation": [[1, 0, 0], [0, 1, 0], [0, 0, -1]], "translation": [[0], [0], [0]]}


def edit(root: Path, index: str, number: int = 0, **changes: Any) -> Path:
    """Change keys of an entry of a data_info.json; the value ... removes a key."""
    entries = json.loads((root / index).read_text())
    entry = {**entries[number], **changes}
    entries[number] = {key: value for key, value in entry.items() if value is not ...}
    write_json(root / index, entries)
    return root


def content(root: Path) -> list[Any]:
    """Return what the split train of a tree holds: of each scene its name and labels, of each agent pose, time, cloud, labels."""
    source = DairSource(root, "train")
    scenes = [load_scene(source, index) for index in range(len(source))]
    return [
        (
            scene.outline.scene_id,
            scene.objects.world_corners.tolist(),
            [
                (frame.world_SE3_agent.tolist(), frame.timestamp_ns, points_of(frame), frame.objects.world_corners.tolist())
                for frame in scene.frames
            ],
        )
        for scene in scenes
    ]


def points_of(frame: AgentFrame) -> list[Any]:
    assert frame.lidar is not None
    return frame.lidar.points.tolist()


@pytest.mark.parametrize(
    ("index", "key", "value"),
    [
        (COOPERATIVE, "cooperative_label_path", "label_world/000010.json"),
        (COOPERATIVE, "cooperative_label_path", f"/mnt/set/{INNER}/cooperative/label_world/000010.json"),
        (COOPERATIVE, "cooperative_label_path", f"D:\\set\\{INNER}\\cooperative\\label_world\\000010.json"),
        (COOPERATIVE, "infrastructure_pointcloud_path", "velodyne/000003.pcd"),
        (COOPERATIVE, "vehicle_pointcloud_path", "vehicle-side\\velodyne\\000010.pcd"),
        (VEHICLE, "pointcloud_path", "vehicle-side/velodyne/000010.pcd"),
        (VEHICLE, "label_lidar_path", " ./label/lidar/000010.json "),
        (VEHICLE, "calib_novatel_to_world_path", f"{INNER}/vehicle-side/calib/novatel_to_world/000010.json"),
        (VEHICLE, "batch_id", 3),
        (VEHICLE, "batch_id", 3.0),
        (VEHICLE, "pointcloud_timestamp", 1_600_000_001_000_000),
        (VEHICLE, "pointcloud_timestamp", 1_600_000_001_000_000.0),
        (VEHICLE, "pointcloud_timestamp", " 1600000001000000.0 "),
        (COOPERATIVE, "system_error_offset", {"delta_x": "1.0", "delta_y": " 1 "}),
        (VEHICLE, "calib_camera_intrinsic_path", ...),
        (ROADSIDE, "calib_virtuallidar_to_camera_path", None),
        (ROADSIDE, "image_path", ""),
    ],
)
def test_an_entry_may_be_written_in_several_ways(tmp_path: Path, index: str, key: str, value: Any) -> None:
    found = content(edit(write_tree(tmp_path / "a"), index, **{key: value}))
    assert len(found) == 1 and found == content(write_tree(tmp_path / "b"))


@pytest.mark.parametrize("ids", [[10], ["10"], ["0010"], [10.0], [" 000010 "]])
def test_ids_may_be_numbers_and_unpadded(tmp_path: Path, ids: list[Any]) -> None:
    root = write_tree(tmp_path / "a")
    write_json(root / "train.json", ids)
    found = content(root)
    assert len(found) == 1 and found == content(write_tree(tmp_path / "b"))


@pytest.mark.parametrize("offset", ["", None, {}, {"delta_x": "", "delta_y": " "}, {"delta_x": None}])
def test_a_blank_offset_is_0(tmp_path: Path, offset: Any) -> None:
    source = DairSource(edit(write_tree(tmp_path), COOPERATIVE, system_error_offset=offset), "train")
    assert source.agent_frame(0, "roadside").world_SE3_agent[:2, 3].tolist() == [1009, 1999]


def test_half_microseconds_and_blank_times(tmp_path: Path) -> None:
    root = edit(write_tree(tmp_path), VEHICLE, pointcloud_timestamp="1600000001000000.5")
    source = DairSource(root, "train")
    assert source.outline(0).timestamp_ns == 1_600_000_001_000_000_500 and source.summary.notes == NOTES
    source = DairSource(edit(root, VEHICLE, pointcloud_timestamp=""), "train")
    assert source.outline(0).timestamp_ns == 0
    assert source.summary.notes == (*NOTES, "1 frames without a time, which counts as 0")


# Each of the two sides lists a pedestrian, and a van of length 0.
NOTES = ("labels left out: 2 Pedestrian, 2 without a size",)


def test_a_frame_that_is_listed_twice_counts_once(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    write_json(root / "train.json", ["000010", "000011", "10"])
    source = DairSource(root, "train")
    assert [source.outline(index).scene_id for index in range(len(source))] == ["3/000010", "3/000011"]
    assert source.summary.skipped == (("10", "listed twice in the split; it counts once"),)


def test_entries_of_the_same_frame_that_differ_are_told(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    entries = json.loads((root / VEHICLE).read_text())
    write_json(root / VEHICLE, [*entries, entries[0], {**entries[0], "batch_id": "4"}])
    source = DairSource(root, "train")
    assert source.outline(0).scene_id == "3/000010"
    reason = "frame 000010 is listed before with other values, which count"
    assert source.summary.skipped == (("vehicle-side/data_info.json, entry 3", reason),)


def test_cameras_are_missed_only_by_those_who_ask_for_them(tmp_path: Path) -> None:
    source = DairSource(edit(write_tree(tmp_path), ROADSIDE, calib_virtuallidar_to_camera_path=...), "train")
    cameras = SensorChoice(cameras=True)
    assert len(source.agent_frame(0, "vehicle", cameras).cameras) == 1
    cause = r"infrastructure-side/data_info\.json: frame 000003: no entry calib_virtuallidar_to_camera_path; camera images were"
    with pytest.raises(DatasetError, match=cause):
        source.agent_frame(0, "roadside", cameras)


@pytest.mark.parametrize(
    ("index", "key", "value", "cause"),
    [
        (VEHICLE, "calib_novatel_to_world_path", ..., "no entry calib_novatel_to_world_path"),
        (VEHICLE, "label_lidar_path", ..., "no entry label_lidar_path"),
        (VEHICLE, "label_lidar_path", [1], "label_lidar_path: expected text or a whole number, got [1]"),
        (VEHICLE, "pointcloud_timestamp", "noon", "pointcloud_timestamp: expected microseconds, got 'noon'"),
        (VEHICLE, "pointcloud_timestamp", "nan", "pointcloud_timestamp: expected microseconds, got 'nan'"),
        (ROADSIDE, "calib_virtuallidar_to_world_path", None, "no entry calib_virtuallidar_to_world_path"),
        (COOPERATIVE, "cooperative_label_path", "", "no entry cooperative_label_path"),
        (COOPERATIVE, "infrastructure_pointcloud_path", ..., "no entry infrastructure_pointcloud_path"),
        (COOPERATIVE, "system_error_offset", [1, 2], "system_error_offset: expected a mapping of keys to values, got list [1, 2]"),
        (COOPERATIVE, "system_error_offset", {"delta_x": NAN}, "system_error_offset: delta_x: expected a finite number, got nan"),
    ],
)
def test_one_bad_entry_costs_one_frame_and_is_named(tmp_path: Path, index: str, key: str, value: Any, cause: str) -> None:
    reason = f"{index.removeprefix(f'{INNER}/')}: {cause}"
    root = edit(write_tree(tmp_path), index, **{key: value})
    write_json(root / "both.json", ["000010", "000011"])
    source = DairSource(root, "both")
    assert [source.outline(number).scene_id for number in range(len(source))] == ["3/000011"]
    assert f"  skipped 000010: {reason}" in str(source.summary).splitlines()
    with pytest.raises(DatasetError) as raised:
        DairSource(root, "train")
    text = str(raised.value)
    assert text.endswith(f"none of the 1 frames of split 'train' can be used; 000010: {reason}") and "\n" not in text


def test_an_entry_without_a_frame_is_named_by_its_number(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    write_json(root / ROADSIDE, [7, *json.loads((root / ROADSIDE).read_text())])
    source = DairSource(root, "train")
    assert len(source) == 1
    assert "infrastructure-side/data_info.json, entry 0: expected a mapping of keys to values, got int 7" in str(source.summary)


def test_cooperative_labels_without_a_size_are_no_objects(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    good, point, flat, odd = (world_label("car", x, 0.0) for x in (0.0, 20.0, 40.0, 60.0))
    point["world_8_points"] = [[20, -5, -1.0]] * 8
    flat["world_8_points"] = [[*corner[:2], 0.0] for corner in flat["world_8_points"]]
    odd["world_8_points"][4][2] = float("nan")
    walker = world_label("Cyclist", 80.0, 0.0)
    write_json(root / INNER / "cooperative/label_world/000010.json", [point, walker, flat, good, odd])
    source = DairSource(root, "train")
    assert source.scene_objects(0).ids.tolist() == [3]
    assert source.summary.notes == ("labels left out: 5 without a size, 2 Pedestrian, 1 Cyclist",)


@pytest.mark.parametrize("size", [0, -2.0, float("nan"), float("inf"), "", "nan"])
def test_labels_of_a_side_without_a_size_are_no_objects(tmp_path: Path, size: Any) -> None:
    root = write_tree(tmp_path)
    entry = label("Truck", 30.0, 0.0)
    entry["3d_dimensions"]["h"] = size
    write_json(root / INNER / "vehicle-side/label/lidar/000010.json", [label("Car", 20, 0), entry])
    source = DairSource(root, "train")
    assert source.agent_frame(0, "vehicle").objects.ids.tolist() == [0]
    assert source.summary.notes == ("labels left out: 2 without a size, 1 Pedestrian",)


@pytest.mark.parametrize(
    "name",
    [
        "vehicle-side/calib/novatel_to_world/000010.json",
        "vehicle-side/calib/lidar_to_novatel/000010.json",
        "infrastructure-side/calib/virtuallidar_to_world/000003.json",
        "vehicle-side/calib/lidar_to_camera/000010.json",
        "infrastructure-side/calib/virtuallidar_to_camera/000003.json",
    ],
)
def test_a_calibration_that_mirrors_is_refused_at_every_step(tmp_path: Path, name: str) -> None:
    source = DairSource(write_tree(tmp_path), "train", {"camera"})
    write_json(tmp_path / INNER / name, MIRROR)
    with pytest.raises(DatasetError, match="mirror") as raised:
        load_scene(source, 0)
    assert raised.value.path == tmp_path / INNER / name and "\n" not in str(raised.value)


def test_a_camera_that_mirrors_is_refused() -> None:
    with pytest.raises(ValueError, match="without mirroring"):
        rigid_camera(np.eye(3), np.diag([1.0, 1.0, -1.0]), np.zeros(3))


def test_the_summary_says_which_labels_are_read(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    assert DairSource(root, "train").summary.labels == "original labels"
    (root / INNER / "cooperative/label_world_backup").mkdir()
    mixed = "complemented labels (the vehicle's own labels are the other kind)"
    assert DairSource(root, "train").summary.labels == mixed
    (root / INNER / "vehicle-side/label/lidar_backup").mkdir()
    source = DairSource(root, "train")
    assert source.summary.labels == "complemented labels"
    assert (
        str(source.summary).splitlines()[0].endswith("1 frames in 1 scenarios, 2 agents, complemented labels, joint ground truth")
    )


@pytest.mark.parametrize("there", ["val", "validate"])
@pytest.mark.parametrize("asked", ["val", "validate", "validation"])
def test_the_validation_list_has_many_names(tmp_path: Path, there: str, asked: str) -> None:
    root = write_tree(tmp_path)
    (root / "val.json").rename(root / f"{there}.json")
    assert DairSource(root, asked).outline(0).scene_id == "3/000011"
    write_json(tmp_path / "b" / "cooperative-split-data.json", {"cooperative_split": {there: ["000011"]}})
    assert read_dair_split(tmp_path / "b", asked) == ["000011"]


def test_a_set_that_was_unpacked_once_too_often_is_found(tmp_path: Path) -> None:
    write_pair(tmp_path / INNER, "000010", "000003")
    write_json(tmp_path / "train.json", ["000010"])
    assert len(DairSource(tmp_path, "train")) == 1
