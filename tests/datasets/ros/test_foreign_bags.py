"""Bags that other programs record: other frames, fields, encodings and ids are read; what is not clear or not whole is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heal.datasets.dataset import DatasetError
from heal.datasets.ros.layout import BagOptions
from heal.datasets.ros.messages import CAMERA_INFO, CLOUD, DETECTIONS, IMAGE, TRANSFORMS, Messages
from heal.datasets.ros.reader import BagScenes
from heal.datasets.ros.transforms import quaternion_of, transform_message, vector_message
from heal.datasets.ros.writer import write_bag
from heal.se3 import pose_to_SE3
from tests.datasets.made_scenes import made_scenes

MS = 1_000_000
START = 1_700_000_000_000_000_000
LIDAR_IN_BASE = pose_to_SE3([1.0, 0.0, 1.8, 0.0, 0.0, 0.0])
# x right, y down, z forward in axes x forward, y left, z up, 2 m before the rear axle.
CAMERA_IN_BASE = np.array([[0.0, 0.0, 1.0, 2.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 1.5], [0.0, 0.0, 0.0, 1.0]])
RAW_INTENSITY = np.array([0, 1000, 4095, 3000], np.uint16)
PIXELS = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)


class Recorder:
    """Writes messages as a driver of a robot does, every cloud 30 ms later than it was measured."""

    def __init__(self, folder: Path) -> None:
        from rosbags.rosbag2 import StoragePlugin, Writer

        self.messages, self.connections = Messages(), {}
        self.writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)

    def put(self, topic, log_ns, message):
        if topic not in self.connections:
            self.connections[topic] = self.writer.add_connection(topic, message.__msgtype__, typestore=self.messages.store)
        self.writer.write(self.connections[topic], log_ns, self.messages.encode(message))

    def transform(self, topic, time_ns, parent, child, pose):
        entry = transform_message(self.messages, self.messages.header(time_ns, parent), child, pose)
        self.put(topic, time_ns, self.messages.make(TRANSFORMS, transforms=[entry]))

    def cloud(self, topic, time_ns, frame):
        """Two rows of two points and padding, big-endian, the second point without an echo."""
        make = self.messages.make
        layout = np.dtype(
            {"names": ["x", "y", "z", "i"], "formats": [">f4"] * 3 + [">u2"], "offsets": [0, 4, 8, 14], "itemsize": 20}
        )
        rows = np.zeros((2, 2), layout)
        rows["x"], rows["y"], rows["z"], rows["i"] = [[1, np.nan], [3, 4]], 5, 6, RAW_INTENSITY.reshape(2, 2)
        data = b"".join(row.tobytes() + bytes(8) for row in rows)
        names = {"x": (0, 7), "y": (4, 7), "z": (8, 7), "Intensity": (14, 4)}
        fields = [make("sensor_msgs/msg/PointField", name=n, offset=o, datatype=t, count=1) for n, (o, t) in names.items()]
        shape = {"height": 2, "width": 2, "point_step": 20, "row_step": 48, "is_bigendian": True, "is_dense": False}
        header = self.messages.header(time_ns, frame)
        message = make(CLOUD, header=header, fields=fields, data=np.frombuffer(data, np.uint8), **shape)
        self.put(topic, time_ns + 30 * MS, message)

    def camera(self, time_ns):
        make, header = self.messages.make, self.messages.header(time_ns, "cam_optical")
        rows = np.concatenate([PIXELS.reshape(4, 15), np.zeros((4, 1), np.uint8)], axis=1).reshape(-1)
        self.put(
            "/front/image_raw",
            time_ns,
            make(IMAGE, header=header, height=4, width=5, encoding="bgr8", is_bigendian=0, step=16, data=rows),
        )
        roi = make("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
        k = np.array([30.0, 0, 2.5, 0, 30.0, 2.0, 0, 0, 1])
        arrays = {"d": np.array([0.1, 0, 0, 0, 0]), "k": k, "r": np.eye(3).ravel(), "p": np.zeros(12)}
        size = {"height": 4, "width": 5, "binning_x": 0, "binning_y": 0, "distortion_model": "plumb_bob"}
        self.put("/front/camera_info", time_ns, make(CAMERA_INFO, header=header, roi=roi, **size, **arrays))

    def detections(self, time_ns):
        header, make = self.messages.header(time_ns, "base_link"), self.messages.make
        found = [
            self._detection(header, *each)
            for each in (("car", "a-b", 4.0), ("pedestrian", "c-d", 0.6), ("", "", 2.0), ("Truck", "17", 0.0))
        ]
        self.put("/tracker/boxes", time_ns, make(DETECTIONS, header=header, detections=found))

    def _detection(self, header, kind, text, length):
        make, (x, y, z, w) = self.messages.make, quaternion_of(np.eye(3)).tolist()
        position = make("geometry_msgs/msg/Point", x=10.0, y=0.0, z=1.0)
        pose = make(
            "geometry_msgs/msg/Pose", position=position, orientation=make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)
        )
        hypothesis = make("vision_msgs/msg/ObjectHypothesis", class_id=kind, score=0.9)
        covered = make("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=np.zeros(36))
        result = make("vision_msgs/msg/ObjectHypothesisWithPose", hypothesis=hypothesis, pose=covered)
        box = make("vision_msgs/msg/BoundingBox3D", center=pose, size=vector_message(self.messages, np.array([length, 2.0, 1.5])))
        return make("vision_msgs/msg/Detection3D", header=header, results=[result], bbox=box, id=text)


def base_pose(time_ns: int) -> np.ndarray:
    """A drive along x at 10 m/s from x = 100 m."""
    return pose_to_SE3([100 + (time_ns - START) * 1e-8, 20, 0, 0, 0, 0])


def record(folder: Path, clouds: dict[str, str] | None = None, world: str = "map") -> Path:
    """Half a second of a robot with one LiDAR, one camera and a tracker; poses come 20 ms before and after each cloud."""
    recorder = Recorder(folder)
    with recorder.writer:
        recorder.transform("/tf_static", START, "base_link", "velodyne", LIDAR_IN_BASE)
        recorder.transform("/tf_static", START, "base_link", "cam_optical", CAMERA_IN_BASE)
        for step in range(5):
            time_ns = START + step * 100 * MS
            for pose_ns in (time_ns - 20 * MS, time_ns + 20 * MS):
                if pose_ns >= START:
                    recorder.transform("/tf", pose_ns, world, "base_link", base_pose(pose_ns))
            recorder.camera(time_ns + 5 * MS)
            recorder.detections(time_ns)
            for topic, frame in (clouds or {"/velodyne/points": "velodyne"}).items():
                recorder.cloud(topic, time_ns, frame)
    return folder


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> BagScenes:
    return BagScenes(record(tmp_path_factory.mktemp("bags") / "robot"))


def test_a_robot_is_read_as_one_agent_with_its_camera(robot: BagScenes) -> None:
    scenes = list(robot.scenes())
    assert [scene.outline.timestamp_ns for scene in scenes] == [START + step * 100 * MS for step in range(5)]
    assert {scene.outline.agent_ids for scene in scenes} == {("ego",)}
    for scene in scenes[1:]:  # of the first one only a later pose is known
        expected = base_pose(scene.outline.timestamp_ns) @ LIDAR_IN_BASE
        np.testing.assert_allclose(scene.ego.world_SE3_agent, expected, atol=1e-7)
    points = scenes[1].ego.lidar.points
    np.testing.assert_allclose(points[:, 0], [1, 3, 4])
    np.testing.assert_allclose(points[:, 3], RAW_INTENSITY[[0, 2, 3]] / np.float32(4095))
    [view] = scenes[1].ego.cameras
    np.testing.assert_array_equal(view.image, PIXELS[..., ::-1])
    np.testing.assert_allclose(view.agent_SE3_camera, np.linalg.inv(LIDAR_IN_BASE) @ CAMERA_IN_BASE, atol=1e-9)
    assert view.intrinsic[0].tolist() == [30.0, 0.0, 2.5]


def test_labels_come_from_the_frame_that_they_name(robot: BagScenes) -> None:
    scenes = list(robot.scenes())
    objects = scenes[2].objects
    assert len(objects) == 2 and len(set(objects.ids.tolist())) == 2
    assert scenes[2].outline.labelled_as_whole
    np.testing.assert_allclose(objects.world_corners[0].mean(axis=0), [112, 20, 1], atol=1e-7)
    np.testing.assert_allclose(np.ptp(objects.world_corners[0], axis=0), [4, 2, 1.5], atol=1e-7)
    assert scenes[3].objects.ids[0] == objects.ids[0], "the same text is the same number"
    assert scenes[3].objects.ids[1] != objects.ids[1], "an object without an id is no other"
    assert "images of cam_optical are distorted by the lens, and are taken as they are" in robot.notes
    assert any("pedestrian" in note for note in robot.notes) and any("without a size" in note for note in robot.notes)


def test_two_clouds_of_one_body_must_be_chosen(tmp_path: Path) -> None:
    bag = record(tmp_path / "two", {"/left/points": "velodyne", "/right/points": "velodyne"})
    with pytest.raises(
        DatasetError, match="expected one topic of clouds, got /left/points and /right/points; name the one to read"
    ):
        BagScenes(bag)
    assert len(list(BagScenes(bag, BagOptions(clouds=("/right/points",))).scenes())) == 5
    with pytest.raises(DatasetError, match="on /top, there are /left/points, /right/points"):
        BagScenes(bag, BagOptions(clouds=("/top",)))


def test_what_is_not_clear_is_named(tmp_path: Path) -> None:
    bag = record(tmp_path / "utm", world="utm")
    with pytest.raises(DatasetError, match=r"no transform has the frame map or world or odom.*name the world with --world-frame"):
        BagScenes(bag)
    assert len(list(BagScenes(bag, BagOptions(world_frame="utm")).scenes())) == 5
    with pytest.raises(DatasetError, match="unknown agent 'truck' wanted as ego; there are ego"):
        BagScenes(bag, BagOptions(world_frame="utm", ego_id="truck"))
    lost = BagScenes(record(tmp_path / "lost", {"/velodyne/points": "unknown"}))
    with pytest.raises(DatasetError, match="no transforms lead from the frame 'unknown' to 'map'"):
        list(lost.scenes())


def whole_bag(folder: Path) -> bytes:
    write_bag(made_scenes(), folder, left_handed=False)
    return (folder / f"{folder.name}.mcap").read_bytes()


def test_a_damaged_bag_is_named_whatever_the_damage(tmp_path: Path) -> None:
    whole, path = whole_bag(tmp_path / "drive"), tmp_path / "damaged.mcap"
    contents = [b"", b"MCAP", whole[:40], whole[: len(whole) // 2], whole[:-40], whole.replace(b"ros2msg", b"ros9msg"), whole[100:]]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=r"damaged\.mcap: ") as raised:
            list(BagScenes(path).scenes())
        assert raised.value.path == path
    with pytest.raises(DatasetError, match="no such file or folder"):
        BagScenes(tmp_path / "missing.mcap")
    with pytest.raises(DatasetError, match=r"expected metadata\.yaml or one \.mcap file"):
        BagScenes(tmp_path / "drive").path and BagScenes(tmp_path.parent)


def test_no_changed_byte_ends_in_another_error(tmp_path: Path) -> None:
    whole, path, rng = bytearray(whole_bag(tmp_path / "drive")), tmp_path / "damaged.mcap", np.random.default_rng(5)
    named = 0
    for place in rng.integers(0, len(whole), 20):
        content = whole.copy()
        content[place : place + 4] = rng.bytes(4)
        path.write_bytes(content)
        try:
            list(BagScenes(path).scenes())
        except DatasetError as error:
            named += error.path == path
    assert named
