"""Scenes written as a bag of ROS 2: equal when they are read back, and opened by a reader that shares no code with ours."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heal.datasets.ros.handedness import is_left_handed, mirrored
from heal.datasets.ros.reader import BagScenes, is_bag
from heal.datasets.ros.writer import write_bag
from heal.datasets.town import TownSource
from heal.errors import UserError
from heal.types import Scene, load_scene
from tests.datasets.made_scenes import FORWARD_CAMERA, INTRINSIC, TIMES_NS, made_scenes


def assert_equal(scene: Scene, other: Scene) -> None:
    """Points, images, depths, times and ids equal to the last bit, poses to 1e-9, boxes to 1e-6."""
    assert (scene.outline.timestamp_ns, scene.outline.agent_ids) == (other.outline.timestamp_ns, other.outline.agent_ids)
    assert (scene.outline.ego_id, scene.outline.labelled_as_whole) == (other.outline.ego_id, other.outline.labelled_as_whole)
    assert_objects_equal(scene.objects, other.objects)
    for mine, read in zip(scene.frames, other.frames, strict=True):
        assert (mine.agent_id, mine.kind, mine.timestamp_ns) == (read.agent_id, read.kind, read.timestamp_ns)
        np.testing.assert_allclose(mine.world_SE3_agent, read.world_SE3_agent, rtol=0, atol=1e-9)
        assert mine.lidar.points.tobytes() == read.lidar.points.tobytes()
        assert_objects_equal(mine.objects, read.objects)
        for view, seen in zip(mine.cameras, read.cameras, strict=True):
            assert view.name == seen.name
            np.testing.assert_array_equal(view.image, seen.image)
            np.testing.assert_array_equal(view.depth_m, seen.depth_m)
            np.testing.assert_array_equal(view.intrinsic, seen.intrinsic)
            np.testing.assert_allclose(view.agent_SE3_camera, seen.agent_SE3_camera, rtol=0, atol=2e-9)


def assert_objects_equal(objects, others):
    np.testing.assert_array_equal(objects.ids, others.ids)
    np.testing.assert_allclose(objects.world_corners, others.world_corners, rtol=0, atol=1e-6)


@pytest.mark.parametrize("images", ["png", "raw"])
def test_right_handed_scenes_come_back(tmp_path: Path, images: str) -> None:
    scenes = made_scenes()
    assert write_bag(iter(scenes), tmp_path / "drive", left_handed=False, images=images) == 3
    assert {path.name for path in (tmp_path / "drive").iterdir()} == {"drive.mcap", "metadata.yaml", "made_from.yaml", "SHA256SUMS"}
    assert is_bag(tmp_path / "drive") and is_bag(tmp_path / "drive" / "drive.mcap") and not is_bag(tmp_path)
    bag = BagScenes(tmp_path / "drive")
    read = list(bag.scenes())
    assert len(read) == bag.clouds == 3 and bag.notes == () and bag.layout.labelled
    for scene, other in zip(scenes, read, strict=True):
        assert_equal(scene, other)
    assert [scene.outline.scene_id for scene in read] == ["drive/000002", "drive/000004", "drive/000007"]


def test_the_town_comes_back_from_the_bag(tmp_path: Path) -> None:
    sensors = frozenset({"lidar", "camera", "depth"})
    town = TownSource("test", seed=4, ticks=2, split="validate", sensors=sensors, stride=5)
    scenes = [load_scene(town, index) for index in range(len(town))]
    assert is_left_handed(scenes[0])
    write_bag(scenes, tmp_path / "town", left_handed=True)
    read = list(BagScenes(tmp_path / "town" / "town.mcap").scenes())
    assert len(read) == 2 and len(read[0].frames) == 3 and len(read[0].objects) > 0
    for scene, other in zip(scenes, read, strict=True):
        assert_equal(scene, other)


def test_a_mirrored_scene_is_right_handed_and_mirrored_again_it_is_the_same() -> None:
    scene = made_scenes()[1]
    left = mirrored(scene)
    assert is_left_handed(left) is True and is_left_handed(scene) is False
    assert is_left_handed(replace(scene, frames=tuple(replace(frame, cameras=()) for frame in scene.frames))) is None
    point = np.append(scene.ego.lidar.points[0, :3], 1.0)
    seen, seen_left = (at @ p for at, p in ((scene.ego.world_SE3_agent, point), (left.ego.world_SE3_agent, point * [1, -1, 1, 1])))
    np.testing.assert_allclose(seen * [1, -1, 1, 1], seen_left)
    again = mirrored(left)
    np.testing.assert_array_equal(again.objects.world_corners, scene.objects.world_corners)
    np.testing.assert_array_equal(again.ego.world_SE3_agent, scene.ego.world_SE3_agent)
    assert again.ego.lidar.points.tobytes() == scene.ego.lidar.points.tobytes()


def test_labels_of_the_whole_scene_and_no_labels_are_kept_apart(tmp_path: Path) -> None:
    scenes = [replace(scene, outline=replace(scene.outline, labelled_as_whole=True)) for scene in made_scenes()]
    write_bag(scenes, tmp_path / "whole", left_handed=False)
    for scene, other in zip(scenes, BagScenes(tmp_path / "whole").scenes(), strict=True):
        assert_equal(scene, other)
    write_bag(scenes, tmp_path / "none", left_handed=False, labelled=False)
    bag = BagScenes(tmp_path / "none")
    assert not bag.layout.labelled and all(len(scene.objects) == 0 for scene in bag.scenes())


def test_a_camera_that_is_moved_is_followed(tmp_path: Path) -> None:
    scenes, moved = made_scenes(), FORWARD_CAMERA.copy()
    moved[2, 3] += 0.5
    ego, other = scenes[1].frames
    turned = replace(ego, cameras=(replace(ego.cameras[0], agent_SE3_camera=moved),))
    write_bag([scenes[0], Scene.of([turned, other]), scenes[2]], tmp_path / "drive", left_handed=False)
    read = [scene.ego.cameras[0].agent_SE3_camera[2, 3] for scene in BagScenes(tmp_path / "drive").scenes()]
    np.testing.assert_allclose(read, [0.2, 0.7, 0.2], atol=1e-9)


def test_an_independent_reader_opens_the_bag(tmp_path: Path) -> None:
    from mcap.reader import make_reader
    from mcap_ros2.decoder import DecoderFactory

    scenes = made_scenes()
    write_bag(scenes, tmp_path / "drive", left_handed=False)
    found = {}
    with (tmp_path / "drive" / "drive.mcap").open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        assert reader.get_summary().statistics.message_count > 0
        for _, channel, message, decoded in reader.iter_decoded_messages():
            found.setdefault(channel.topic, []).append((message.log_time, decoded))
    agents = {f"/{agent}/{name}" for agent in ("agent_7", "roadside_m1") for name in ("lidar", "objects")}
    cameras = {
        f"/{agent}/camera0/{name}" for agent in ("agent_7", "roadside_m1") for name in ("image/compressed", "camera_info", "depth")
    }
    assert set(found) == {"/tf", "/tf_static", "/recording", *agents, *cameras}
    times, clouds = zip(*found["/agent_7/lidar"], strict=True)
    assert times == TIMES_NS
    points = np.frombuffer(clouds[2].data, "<f4").reshape(-1, 4)
    np.testing.assert_array_equal(points, scenes[2].ego.lidar.points)
    assert [field.name for field in clouds[0].fields] == ["x", "y", "z", "intensity"]
    assert (clouds[2].header.stamp.sec, clouds[2].header.stamp.nanosec) == (0, 350_000_123)
    assert clouds[0].header.frame_id == "agent_7/base"
    info = found["/agent_7/camera0/camera_info"][0][1]
    np.testing.assert_array_equal(np.array(info.k).reshape(3, 3), INTRINSIC)
    assert info.header.frame_id == "agent_7/camera0_optical" == found["/tf_static"][0][1].transforms[0].child_frame_id
    detections = found["/roadside_m1/objects"][0][1]
    assert (detections.header.frame_id, [each.id for each in detections.detections]) == ("map", ["302"])
    centre = detections.detections[0].bbox.center.position
    np.testing.assert_allclose([centre.x, centre.y, centre.z], scenes[0].objects.world_corners[1].mean(axis=0))


@pytest.mark.parametrize(
    ("times", "message"),
    [((100, 100), "expected a time after 100 ns"), ((-5,), "ROS 2 has no other times"), ((), "at least one scene")],
)
def test_what_no_bag_can_hold_is_refused(tmp_path: Path, times: tuple[int, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        write_bag(made_scenes(times), tmp_path / "drive", left_handed=False)
