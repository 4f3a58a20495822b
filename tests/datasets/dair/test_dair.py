"""The reader of DAIR-V2X-C: splits, poses, labels of both kinds, and the errors of a damaged folder."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heal.datasets.dair.calibration import rigid_camera
from heal.datasets.dair.source import DairSource
from heal.datasets.dataset import DatasetError, UnknownAgentError
from heal.datasets.open import open_dataset
from heal.datasets.split_names import NoSplitError
from heal.se3 import pose_to_SE3
from heal.types import SensorChoice, load_scene
from tests.datasets.dair.dair_tree import INNER, label, rigid, world_label, write_json, write_tree


@pytest.mark.parametrize("label_key", ["label_lidar_path", "label_lidar_std_path"])
def test_a_pair_is_a_scene(tmp_path: Path, label_key: str) -> None:
    source = DairSource(write_tree(tmp_path, label_key), "train", {"lidar", "camera"})
    scene = load_scene(source, 0)
    assert (len(source), scene.outline.scene_id, scene.outline.agent_ids) == (1, "3/000010", ("vehicle", "roadside"))
    assert [frame.kind for frame in scene.frames] == ["vehicle", "roadside"]
    assert scene.outline.timestamp_ns == 1_600_000_001_000_000_000
    assert scene.frame("roadside").timestamp_ns == 1_600_000_000_300_000_000
    assert scene.ego.lidar is not None and scene.ego.lidar.points.shape == (1, 4)
    assert scene.ego.cameras[0].image.shape == (54, 96, 3)


def test_poses_chain_and_the_offset_moves_the_roadside_unit(tmp_path: Path) -> None:
    scene = load_scene(DairSource(write_tree(tmp_path), "train"), 0)
    np.testing.assert_allclose(scene.ego.world_SE3_agent, pose_to_SE3([1000, 2000, 2, 0, 90, 0]), atol=1e-9)
    np.testing.assert_allclose(scene.frame("roadside").world_SE3_agent, pose_to_SE3([1010, 2000, 7, 0, 180, 0]), atol=1e-9)


def test_labels_of_a_side_are_its_vehicles_in_the_world(tmp_path: Path) -> None:
    scene = load_scene(DairSource(write_tree(tmp_path), "train"), 0)
    own = scene.ego.objects
    assert own.ids.tolist() == [0, 2]  # the pedestrian has number 1; an entry without a length has no number
    # 20 m ahead of a vehicle that looks along +y.
    np.testing.assert_allclose(own.world_corners[0].mean(axis=0), [1000, 2020, 1.0], atol=1e-9)
    roadside = scene.frame("roadside").objects
    np.testing.assert_allclose(roadside.world_corners[0].mean(axis=0), [990, 2000, 6.0], atol=1e-9)
    assert not set(own.ids) & set(roadside.ids)
    assert scene.objects.ids.tolist() == [0]
    np.testing.assert_allclose(scene.objects.world_corners[0, 0], [1002, 2019, 0])


def test_complemented_labels_are_read_where_installed(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    for folder in (root / INNER / "cooperative/label_world", root / INNER / "vehicle-side/label/lidar"):
        folder.rename(folder.with_name(f"{folder.name}_backup"))
    write_json(root / INNER / "cooperative/label_world/000010.json", [world_label("car", x, 0.0) for x in (0.0, 10.0, 20.0)])
    write_json(root / INNER / "vehicle-side/label/lidar/000010.json", [label("car", x, 0.0) for x in (0.0, 10.0, 20.0)])
    around = load_scene(DairSource(root, "train"), 0)
    seen = DairSource(root, "train").agent_frame(0, "vehicle", SensorChoice(labels="camera"))
    assert len(seen.objects) == 2 and seen.lidar is not None  # the labels of the front camera
    assert (len(around.objects), len(around.ego.objects), len(around.frame("roadside").objects)) == (3, 3, 2)


def test_ego_can_be_the_roadside_unit_and_agents_limited(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    assert DairSource(root, "val", ego_id="roadside").outline(0).agent_ids == ("roadside", "vehicle")
    assert DairSource(root, "val", max_agents=1).outline(0).agent_ids == ("vehicle",)
    with pytest.raises(DatasetError, match="unknown agent '641' wanted as ego; there are vehicle, roadside"):
        DairSource(root, "val", ego_id="641")
    with pytest.raises(UnknownAgentError, match="no agent 'roadside', there are vehicle"):
        DairSource(root, "val", max_agents=1).agent_frame(0, "roadside")


def test_lists_may_lie_beside_or_inside_the_data(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    assert open_dataset(root / INNER, "validate").outline(0).scene_id == "3/000011"
    (root / "val.json").rename(root / INNER / "val.json")
    assert open_dataset(root, "val").outline(0).scene_id == "3/000011"
    assert open_dataset(root, "val").summary.layout == "DAIR-V2X-C"


def test_official_split_file_serves_and_its_unknown_frames_are_skipped(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    (root / "val.json").unlink()
    write_json(root / "cooperative-split-data.json", {"cooperative_split": {"val": ["000011", "009999"], "test": ["009999"]}})
    source = DairSource(root, "val")
    assert len(source) == 1
    assert "skipped 009999: not in cooperative/data_info.json" in str(source.summary)
    with pytest.raises(DatasetError, match="none of the 1 frames of split 'test' can be used; 009999"):
        DairSource(root, "test")
    with pytest.raises(DatasetError, match="no such split: test_A; there are val, test"):
        DairSource(root, "test_A")


def test_a_missing_offset_is_none(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    path = root / INNER / "cooperative" / "data_info.json"
    entries = json.loads(path.read_text())
    entries[0]["system_error_offset"] = ""
    write_json(path, entries)
    np.testing.assert_allclose(DairSource(root, "train").agent_frame(0, "roadside").world_SE3_agent[:2, 3], [1009, 1999])


def test_source_survives_pickling(tmp_path: Path) -> None:
    source = DairSource(write_tree(tmp_path), "train")
    after = pickle.loads(pickle.dumps(source)).agent_frame(0, "roadside")
    np.testing.assert_array_equal(after.world_SE3_agent, source.agent_frame(0, "roadside").world_SE3_agent)


def test_a_stretched_calibration_projects_alike_through_a_true_rotation() -> None:
    intrinsic = np.array([[2186.0, 0, 968], [0, 2332, 542], [0, 0, 1]])
    turn = pose_to_SE3([0, 0, 0, 20, 40, 10])[:3, :3]
    stretched, translation = np.diag([0.99, 0.83, 0.98]) @ turn, np.array([1.0, -2.0, 12.0])
    new_intrinsic, camera_SE3_agent = rigid_camera(intrinsic, stretched, translation)
    np.testing.assert_allclose(camera_SE3_agent[:3, :3] @ camera_SE3_agent[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(camera_SE3_agent[:3, :3]) > 0 and new_intrinsic[2, 2] == 1.0
    points = np.random.default_rng(0).uniform(-3, 3, (50, 3))
    before = (points @ stretched.T + translation) @ intrinsic.T
    after = (points @ camera_SE3_agent[:3, :3].T + camera_SE3_agent[:3, 3]) @ new_intrinsic.T
    np.testing.assert_allclose(after[:, :2] / after[:, 2:], before[:, :2] / before[:, 2:], atol=1e-8)
    assert (after[:, 2] > 0).all()


def test_a_rigid_calibration_stays_as_it_is() -> None:
    intrinsic = np.array([[797.0, 0, 993], [0, 799, 583], [0, 0, 1]])
    new_intrinsic, camera_SE3_agent = rigid_camera(intrinsic, np.eye(3), np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(new_intrinsic, intrinsic)
    np.testing.assert_array_equal(camera_SE3_agent[:3, 3], [1, 2, 3])


STRETCHED = {"rotation": [[2, 0, 0], [0, 1, 0], [0, 0, 1]], "translation": [0, 0, 0]}
SQUARE = {"rotation": [[1, 0], [0, 1]], "translation": [0, 0, 0]}


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("vehicle-side/calib/lidar_to_novatel/000010.json", None, "no such file"),
        (
            "vehicle-side/calib/lidar_to_novatel/000010.json",
            {"transform": SQUARE},
            r"expected an array of shape \(3, 3\), got \(2, 2\)",
        ),
        ("vehicle-side/calib/lidar_to_novatel/000010.json", [1], "expected a calibration as a mapping"),
        ("vehicle-side/calib/novatel_to_world/000010.json", {"rotation": rigid(0, 0, 0)["rotation"]}, "no entry 'translation'"),
        ("vehicle-side/calib/novatel_to_world/000010.json", STRETCHED, "expected a rigid 4x4 transform"),
        ("vehicle-side/calib/camera_intrinsic/000010.json", {"cam_K": [1, 2]}, "cam_K: expected 9 finite numbers"),
        ("vehicle-side/calib/lidar_to_camera/000010.json", SQUARE, "rotation: expected an array of shape"),
        ("vehicle-side/label/lidar/000010.json", [{"type": "Car"}], "no entry '3d_location'"),
        ("vehicle-side/velodyne/000010.pcd", None, "no such file"),
        ("vehicle-side/image/000010.jpg", "no image", "cannot identify image"),
        (
            "cooperative/label_world/000010.json",
            [{"type": "car", "world_8_points": [[0, 0, 0]]}],
            "world_8_points: expected an array",
        ),
    ],
)
def test_a_damaged_file_is_named_with_the_cause(tmp_path: Path, name: str, content: Any, cause: str) -> None:
    source = DairSource(write_tree(tmp_path), "train", {"lidar", "camera"})
    path = tmp_path / INNER / name
    path.unlink() if content is None else write_json(path, content)
    with pytest.raises(DatasetError, match=cause) as raised:
        load_scene(source, 0)
    assert raised.value.path == path


@pytest.mark.parametrize(
    ("name", "damage", "cause"),
    [
        ("train.json", Path.unlink, "no such split list.*val.json"),
        ("train.json", lambda path: path.write_text("[]"), "the split is empty"),
        ("train.json", lambda path: path.write_text('["000010", null]'), "expected a list of vehicle frame ids"),
        ("train.json", lambda path: path.write_text('["000010"'), "not valid JSON"),
        (f"{INNER}/vehicle-side/data_info.json", Path.unlink, "no such file"),
        (f"{INNER}/cooperative/data_info.json", lambda path: path.write_text("{}"), "expected a list of frames"),
        (f"{INNER}/cooperative/data_info.json", lambda path: path.write_text("[{}]"), "no entry vehicle_pointcloud_path"),
    ],
)
def test_a_damaged_list_is_named_at_opening(tmp_path: Path, name: str, damage: Callable[[Path], Any], cause: str) -> None:
    damage(write_tree(tmp_path) / name)
    with pytest.raises(DatasetError, match=cause) as raised:
        DairSource(tmp_path, "train")
    assert raised.value.path.name == Path(name).name


def test_a_missing_split_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    (write_tree(tmp_path) / "val.json").unlink()
    with pytest.raises(NoSplitError, match="no such split list"):
        DairSource(tmp_path, "validate")
    write_json(tmp_path / "cooperative-split-data.json", {"cooperative_split": {"train": ["000010"]}})
    with pytest.raises(NoSplitError, match="no such split: val; there are train"):
        DairSource(tmp_path, "validate")
