"""Scenes of any source in OPV2V's layout: read back as they were, whole or not there, refused where they would change."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heal.box_corners import boxes_to_corners, corners_to_oriented, oriented_to_corners
from heal.datasets.files import read_yaml
from heal.datasets.open import open_dataset
from heal.datasets.opv2v.writer import write_scenario
from heal.errors import UserError
from heal.se3 import pose_to_SE3
from heal.types import AgentFrame, CameraView, LidarScan, ObjectLabels, Scene, load_scene
from tests.datasets.made_scenes import FORWARD_CAMERA, made_scenes

ALL = ("lidar", "camera", "depth")


def test_scenes_are_read_back_as_they_were(tmp_path: Path) -> None:
    scenes = made_scenes()
    assert write_scenario(iter(scenes), tmp_path, "train", "drive") == len(scenes)
    read = open_dataset(tmp_path, "train", ALL)
    assert len(read) == len(scenes) == 3
    for index, scene in enumerate(scenes):
        again = load_scene(read, index)
        assert again.outline.timestamp_ns == scene.outline.timestamp_ns
        assert again.outline.agent_ids == scene.outline.agent_ids == ("7", "-1")
        np.testing.assert_array_equal(again.objects.ids, scene.objects.ids)
        np.testing.assert_allclose(again.objects.world_corners, scene.objects.world_corners, rtol=0, atol=1e-9)
        for mine, other in zip(scene.frames, again.frames, strict=True):
            assert (mine.kind, mine.timestamp_ns) == (other.kind, other.timestamp_ns)
            np.testing.assert_allclose(mine.world_SE3_agent, other.world_SE3_agent, rtol=0, atol=1e-9)
            np.testing.assert_array_equal(mine.lidar.points[:, :3], other.lidar.points[:, :3])
            np.testing.assert_allclose(mine.lidar.points[:, 3], other.lidar.points[:, 3], atol=0.5001 / 255)
            for view, seen in zip(mine.cameras, other.cameras, strict=True):
                np.testing.assert_array_equal(view.image, seen.image)
                np.testing.assert_array_equal(view.intrinsic, seen.intrinsic)
                np.testing.assert_allclose(view.agent_SE3_camera, seen.agent_SE3_camera, rtol=0, atol=1e-9)
                np.testing.assert_allclose(view.depth_m, seen.depth_m, atol=0.00501)


def test_stamps_count_steps_of_50_ms_and_the_exact_time_is_kept(tmp_path: Path) -> None:
    since_1970 = [1_700_000_000_123_456_789 + step for step in (0, 100_000_001, 100_000_002, 10**9)]
    write_scenario(made_scenes(times_ns=since_1970), tmp_path, "train", "drive")
    files = sorted((tmp_path / "OPV2V/train/drive/7").glob("*.yaml"))
    assert [path.stem for path in files] == ["000000", "000002", "000003", "000020"]
    assert [read_yaml(path)["timestamp_ns"] for path in files] == since_1970


def test_every_written_file_has_its_checksum(tmp_path: Path) -> None:
    write_scenario(made_scenes(), tmp_path, "train", "drive")
    sums = tmp_path / "OPV2V/train/drive/SHA256SUMS"
    listed = dict(line.split("  ")[::-1] for line in sums.read_text().splitlines())
    files = {str(path.relative_to(tmp_path)): path for path in tmp_path.rglob("*") if path.is_file() and path != sums}
    assert any(name.startswith("OPV2V_Hetero/train/drive/7/") for name in files)
    assert listed == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def test_labels_of_the_whole_scene_become_those_of_each_agent_and_no_labels_stay_none(tmp_path: Path) -> None:
    scenes = made_scenes()
    whole = [replace(scene, outline=replace(scene.outline, labelled_as_whole=True)) for scene in scenes]
    write_scenario(whole, tmp_path / "whole", "train", "drive")
    source = open_dataset(tmp_path / "whole", "train")
    assert {len(source.agent_frame(0, agent_id).objects) for agent_id in ("7", "-1")} == {len(scenes[0].objects)}
    assert {len(frame.objects) for frame in scenes[0].frames} == {1, 2}
    write_scenario(scenes, tmp_path / "none", "train", "drive", labelled=False)
    assert "no scene has labels" in str(open_dataset(tmp_path / "none", "train").summary)


def test_an_interrupted_scenario_is_not_there_and_a_whole_one_is_kept(tmp_path: Path) -> None:
    def interrupted():
        yield made_scenes()[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scenario(interrupted(), tmp_path, "train", "drive")
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
    write_scenario(made_scenes(), tmp_path, "train", "drive")
    with pytest.raises(FileExistsError, match="remove it or choose another name"):
        write_scenario(made_scenes(), tmp_path, "train", "drive")


def one_agent(agent_id="1", intensity=0.5, kind="vehicle"):
    points = np.array([[1, 2, 3, intensity]], np.float32)
    return Scene.of([AgentFrame(agent_id, kind, 0, np.eye(4), np.eye(4), LidarScan(points))])


@pytest.mark.parametrize(
    ("scene", "message"),
    [
        (one_agent(intensity=200), "expected intensities from 0 to 1, got 200 to 200"),
        (one_agent(intensity=np.nan), "expected intensities from 0 to 1"),
        (one_agent("-3"), "means a roadside unit"),
        (one_agent("a/b"), "expected a name without /"),
    ],
)
def test_what_would_be_read_as_something_else_is_refused(tmp_path: Path, scene: Scene, message: str) -> None:
    with pytest.raises(UserError, match=message):
        write_scenario([scene], tmp_path, "train", "drive")
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_other_mistakes_are_refused_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one scene"):
        write_scenario([], tmp_path, "train", "drive")
    with pytest.raises(UserError, match="expected a name without /"):
        write_scenario([one_agent()], tmp_path, "train", "../drive")


def test_cameras_of_both_hands_and_of_any_name_are_kept(tmp_path: Path) -> None:
    mirrored = np.diag([1.0, -1.0, 1.0, 1.0]) @ FORWARD_CAMERA
    views = tuple(
        CameraView(name, np.full((4, 6, 3), number, np.uint8), np.eye(3), pose)
        for number, (name, pose) in enumerate({"front": FORWARD_CAMERA, "left": mirrored}.items())
    )
    pose = pose_to_SE3([5, -3, 2, 1, 30, 2])
    write_scenario([Scene.of([AgentFrame("1", "vehicle", 0, pose, pose, None, views)])], tmp_path, "test", "drive")
    read = open_dataset(tmp_path, "test", ("camera",)).agent_frame(0, "1").cameras
    assert [view.name for view in read] == ["camera0", "camera1"]
    for mine, other in zip(views, read, strict=True):
        np.testing.assert_array_equal(mine.image, other.image)
        np.testing.assert_array_equal(mine.agent_SE3_camera, other.agent_SE3_camera)
    written = read_yaml(next(tmp_path.rglob("000000.yaml")))
    ahead = pose @ [4.0, 0.0, 0.2, 1.0]  # 3 m before both cameras
    for name in ("camera0", "camera1"):
        np.testing.assert_allclose(np.array(written[name]["extrinsic"]) @ np.linalg.inv(pose) @ ahead, [3, 0, 0, 1], atol=1e-9)
        np.testing.assert_allclose(pose_to_SE3(written[name]["cords"]) @ [3, 0, 0, 1], ahead, atol=1e-9)
    # A point to the left in the right-handed world is to the left of the image, which is -y in Unreal's axes.
    assert (np.array(written["camera0"]["extrinsic"]) @ [4.0, 1.0, 0.2, 1.0])[1] == pytest.approx(-1)
    assert (np.array(written["camera1"]["extrinsic"]) @ [4.0, 1.0, 0.2, 1.0])[1] == pytest.approx(1)


def test_boxes_of_any_tilt_are_fitted_exactly() -> None:
    rng = np.random.default_rng(3)
    poses = np.stack([pose_to_SE3([*rng.normal(0, 40, 3), *rng.uniform(-60, 60, 3)]) for _ in range(20)])
    sizes = rng.uniform(0.5, 12, (20, 3))
    found_poses, found_sizes = corners_to_oriented(oriented_to_corners(poses, sizes))
    np.testing.assert_allclose(found_poses, poses, atol=1e-9)
    np.testing.assert_allclose(found_sizes, sizes, atol=1e-9)
    upright = boxes_to_corners(np.array([[1.0, 2.0, 3.0, 1.5, 2.0, 4.0, 0.7]]))
    np.testing.assert_allclose(oriented_to_corners(*corners_to_oriented(upright)), upright, atol=1e-12)
    # Left and right exchanged: the same eight points, in the order of a box that is not mirrored.
    exchanged = upright[:, [1, 0, 3, 2, 5, 4, 7, 6]]
    np.testing.assert_allclose(oriented_to_corners(*corners_to_oriented(exchanged)), upright, atol=1e-12)
    with pytest.raises(ValueError, match="a length, a width and a height"):
        corners_to_oriented(np.zeros((1, 8, 3)))
    assert oriented_to_corners(*corners_to_oriented(ObjectLabels.empty().world_corners)).shape == (0, 8, 3)
