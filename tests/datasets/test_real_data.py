"""Real recordings: clouds, calibration chains and labels of the published data sets agree with one another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from heal.datasets.dair.index import read_dair_split
from heal.datasets.dair.source import DairSource
from heal.datasets.files import read_image, read_yaml
from heal.datasets.lidar import read_lidar
from heal.datasets.opv2v.metadata import UNREAL_SE3_OPENCV
from heal.datasets.opv2v.source import Opv2vSource
from heal.detection.boxes import corners_to_boxes
from heal.detection.ground_truth import ground_truth, without_vehicle_at
from heal.se3 import SE3_to_pose, inverse_SE3, relative_SE3, transform_points
from heal.types import Float64, ObjectLabels, load_scene
from tests.real_data import real_data

pytestmark = pytest.mark.real


def dair(split: str = "train", sensors: tuple[str, ...] = ("lidar",)) -> DairSource:
    return DairSource(real_data("dair_v2x_example"), split, sensors)  # type: ignore[arg-type]


def points_inside(world_points: Float64, objects: ObjectLabels) -> int:
    """Count the points that lie in any object."""
    boxes = corners_to_boxes(torch.from_numpy(objects.world_corners)).numpy()
    count = 0
    for x, y, z, h, w, l, yaw in boxes:  # noqa: E741
        dx, dy, dz = (world_points - (x, y, z)).T
        along, across = dx * np.cos(yaw) + dy * np.sin(yaw), dy * np.cos(yaw) - dx * np.sin(yaw)
        count += int(((np.abs(along) < l / 2) & (np.abs(across) < w / 2) & (np.abs(dz) < h / 2)).sum())
    return count


def test_dair_clip_opens_whole() -> None:
    train, val = dair("train"), dair("validate")
    assert (len(train), len(val)) == (20, 8)
    assert train.summary.skipped == val.summary.skipped == ()
    gaps_ms = np.diff([train.outline(i).timestamp_ns for i in range(14)]) / 1e6
    np.testing.assert_allclose(gaps_ms, 100.0, atol=2.0)  # recorded at 10 Hz


def test_system_error_offset_brings_the_roadside_cloud_onto_the_labels() -> None:
    source = dair()
    with_offset = without = 0
    for index in range(0, len(source), 2):
        scene = load_scene(source, index)
        roadside = scene.frame("roadside")
        offset = source._pairs[index].offset_m
        assert roadside.lidar is not None
        points = transform_points(roadside.world_SE3_agent, roadside.lidar.points[:, :3].astype(np.float64))
        if any(offset):
            with_offset += points_inside(points, scene.objects)
            without += points_inside(points - (*offset, 0.0), scene.objects)
    assert with_offset > 1.7 * without > 0


def test_both_clouds_fill_the_same_labels() -> None:
    scene = load_scene(dair(), 10)
    for frame, least in zip(scene.frames, (2000, 1000), strict=True):
        assert frame.lidar is not None
        assert (
            points_inside(transform_points(frame.world_SE3_agent, frame.lidar.points[:, :3].astype(np.float64)), scene.objects)
            > least
        )


def test_grounds_of_both_clouds_meet() -> None:
    """In cells with many points of both clouds, the roadside cloud's ground has the height of the vehicle cloud's ground."""
    scene = load_scene(dair(), 5)
    roadside = scene.frame("roadside")
    assert scene.ego.lidar is not None and roadside.lidar is not None
    ego_SE3_roadside = relative_SE3(scene.outline.world_SE3_ego, roadside.world_SE3_agent)
    own = ground_heights(scene.ego.lidar.points[:, :3].astype(np.float64))
    other = ground_heights(transform_points(ego_SE3_roadside, roadside.lidar.points[:, :3].astype(np.float64)))
    common = ~np.isnan(own) & ~np.isnan(other)
    assert common.sum() > 30
    assert abs(np.median(own[common] - other[common])) < 0.15


def ground_heights(points: Float64) -> Float64:
    """Return a low quantile of the height in cells of 4 m of a square of 80 m; NaN for a cell with few points."""
    heights = np.full((20, 20), np.nan)
    cell = np.floor((points[:, :2] + 40) / 4).astype(int)
    for i, j in np.ndindex(20, 20):
        z = points[(cell == (i, j)).all(axis=1), 2]
        if len(z) > 20:
            heights[i, j] = np.quantile(z, 0.1)
    return heights


def test_vehicle_labels_are_the_cooperative_ones_it_shares() -> None:
    """Position, size and heading agree, so the chain from LiDAR to world and the order of corners match the data set."""
    scene = load_scene(dair(sensors=()), 0)
    own = corners_to_boxes(torch.from_numpy(scene.ego.objects.world_corners)).numpy()
    all_of_them = corners_to_boxes(torch.from_numpy(scene.objects.world_corners)).numpy()
    nearest = all_of_them[np.linalg.norm(own[:, None, :3] - all_of_them[None, :, :3], axis=2).argmin(axis=1)]
    np.testing.assert_allclose(own[:, :6], nearest[:, :6], atol=0.02)
    np.testing.assert_allclose(np.cos(own[:, 6] - nearest[:, 6]), 1.0, atol=1e-3)


def test_dair_intensities_share_one_scale() -> None:
    scene = load_scene(dair(), 0)
    for frame in scene.frames:
        assert frame.lidar is not None
        intensity = frame.lidar.points[:, 3]
        assert len(intensity) > 50_000 and np.isfinite(frame.lidar.points).all()
        assert intensity.min() >= 0.0 and 0.05 < intensity.mean() < 0.5 and 0.9 < intensity.max() <= 1.0


@pytest.mark.parametrize("agent_id", ["vehicle", "roadside"])
def test_dair_boxes_project_onto_the_labelled_image_boxes(agent_id: str) -> None:
    source = dair(sensors=("camera",))
    frame = source.agent_frame(0, agent_id)
    camera = frame.cameras[0]
    assert camera.image.shape == (1080, 1920, 3)
    camera_SE3_world = inverse_SE3(frame.world_SE3_agent @ camera.agent_SE3_camera)
    centres = transform_points(camera_SE3_world, frame.objects.world_corners.mean(axis=1))
    centres = centres[centres[:, 2] > 1.0] @ camera.intrinsic.T
    pixels = centres[:, :2] / centres[:, 2:]
    labelled = image_boxes(source, agent_id)
    inside = ((pixels[:, None] > labelled[None, :, :2]) & (pixels[:, None] < labelled[None, :, 2:])).all(axis=2).any(axis=1)
    on_image = ((pixels > 0) & (pixels < (1920, 1080))).all(axis=1)
    assert on_image.sum() >= 5 and (inside & on_image).sum() >= 0.9 * on_image.sum()


def image_boxes(source: DairSource, agent_id: str) -> Float64:
    folder = source.folder / ("vehicle-side/label/lidar" if agent_id == "vehicle" else "infrastructure-side/label/virtuallidar")
    boxes = [entry["2d_box"] for entry in json.loads(sorted(folder.glob("*.json"))[0].read_text())]
    return np.array([[float(box[key]) for key in ("xmin", "ymin", "xmax", "ymax")] for box in boxes])


@pytest.mark.parametrize("name", ["000070", "000072", "000074"])
def test_opv2v_clouds_keep_their_intensity(name: str) -> None:
    points = read_lidar(real_data("opv2v_pieces", "lidar", f"{name}.pcd"))
    assert 56_000 < len(points) < 57_000
    assert points[:, 3].min() > 0.5 and points[:, 3].max() <= 1.0  # CARLA: exp(-0.004 d), and the range is 120 m
    distance = np.linalg.norm(points[:, :3], axis=1)
    np.testing.assert_allclose(points[:, 3], np.exp(-0.004 * distance), atol=0.01)


def v2xset() -> Opv2vSource:
    return Opv2vSource(real_data("opv2v_pieces", "v2xset_metadata"), "validate", sensors=())


def test_v2xset_metadata_give_poses_and_united_objects() -> None:
    scene = load_scene(v2xset(), 0)
    assert scene.outline.agent_ids == ("4279", "4288", "4297")
    assert [frame.kind for frame in scene.frames] == ["vehicle"] * 3
    np.testing.assert_allclose(SE3_to_pose(scene.ego.world_SE3_agent)[:2], [-275.61, -19.81], atol=0.01)
    listed = [set(frame.objects.ids.tolist()) for frame in scene.frames]
    assert set(scene.objects.ids.tolist()) == set.union(*listed) and len(scene.objects) == 27
    assert 4279 in listed[1]  # the ego, as the second agent sees it


def test_v2xset_ego_is_where_others_label_it() -> None:
    scene = load_scene(v2xset(), 0)
    left = without_vehicle_at(scene.objects, scene.outline.world_SE3_ego)
    assert set(scene.objects.ids.tolist()) - set(left.ids.tolist()) == {4279}
    everything = (-200.0, -200.0, -5.0, 200.0, 200.0, 5.0)
    assert len(ground_truth(scene, everything)) == 27 and len(ground_truth(scene, everything, include_ego=False)) == 26


def test_v2xset_objects_seen_by_two_agents_coincide() -> None:
    scene = load_scene(v2xset(), 0)
    first, second = scene.frames[0].objects, scene.frames[1].objects
    _, i, j = np.intersect1d(first.ids, second.ids, return_indices=True)
    assert len(i) > 10
    np.testing.assert_allclose(first.world_corners[i], second.world_corners[j], atol=1e-6)


def test_v2xset_cameras_look_forward_right_left_and_back(tmp_path: Path) -> None:
    """Left-handed axes: +y is to the right of the vehicle."""
    cameras = Opv2vSource(with_images(tmp_path), "validate", {"camera"}).agent_frame(0, "4279").cameras
    axes = np.array([camera.agent_SE3_camera[:3, 2] for camera in cameras])
    heading = np.degrees(np.arctan2(axes[:, 1], axes[:, 0]))
    np.testing.assert_allclose(np.mod(heading - (0, 100, -100, 180) + 180, 360) - 180, 0.0, atol=1.0)
    assert (np.abs(axes[:, 2]) < 0.02).all()
    values = read_yaml(next(real_data("opv2v_pieces", "v2xset_metadata", "validate").glob("*/4279/000069.yaml")))
    for camera in cameras:
        camera_SE3_agent = UNREAL_SE3_OPENCV.T @ np.array(values[camera.name]["extrinsic"])  # the file's own, in Unreal's axes
        np.testing.assert_allclose(inverse_SE3(camera.agent_SE3_camera), camera_SE3_agent, atol=1e-3)
        assert camera.image.shape == (600, 800, 3) and camera.intrinsic[0, 2] == 400.0


def with_images(folder: Path) -> Path:
    """Link the real metadata of one agent and real images into a folder; return the folder."""
    scenario = next(real_data("opv2v_pieces", "v2xset_metadata", "validate").iterdir())
    agent = folder / "validate" / scenario.name / "4279"
    agent.mkdir(parents=True)
    (agent / "000069.yaml").symlink_to(scenario / "4279" / "000069.yaml")
    for image in real_data("opv2v_pieces", "camera").glob("*.png"):
        (agent / f"000069_{image.stem.split('_')[-1]}.png").symlink_to(image)
    assert read_image(agent / "000069_camera0.png").shape == (600, 800, 3)
    return folder


def test_official_split_has_its_published_size(tmp_path: Path) -> None:
    (tmp_path / "cooperative-split-data.json").symlink_to(real_data("dair_v2x_splits", "cooperative-split-data.json"))
    assert [len(read_dair_split(tmp_path, name)) for name in ("train", "val", "test")] == [4813, 1783, 2688]
