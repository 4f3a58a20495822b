"""Read a bag of ROS 2 as scenes: one for each cloud of the ego, with what the other topics have at about the same time."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from heal.datasets.dataset import DatasetError
from heal.datasets.opv2v.frame_numbers import FrameNumbers
from heal.datasets.ros.boxes import ObjectReader
from heal.datasets.ros.clouds import cloud_points
from heal.datasets.ros.handedness import mirrored
from heal.datasets.ros.images import depth_of, image_of, intrinsic_of
from heal.datasets.ros.layout import AgentTopics, BagOptions, CameraTopics, LayoutFinder
from heal.datasets.ros.messages import DETECTIONS, TRANSFORMS, Messages, bag_errors_naming, require_rosbags, stamp_ns
from heal.datasets.ros.names import is_static
from heal.datasets.ros.transforms import TransformTree, frame_name
from heal.se3 import relative_SE3
from heal.types import AgentFrame, CameraView, LidarScan, ObjectLabels, Scene, SceneOutline

# A message may be recorded so much later than one that was sent at the same time; so long a scene waits for its parts.
_DELAY_NS = 1_000_000_000
_MOST_KEPT = 64  # messages of a topic, in case its clock is another one


@dataclass(frozen=True)
class _Recorded:
    """A message as it was recorded: its time in nanoseconds, its bytes and its type."""

    time_ns: int
    raw: bytes
    kind: str


class BagScenes:
    """The scenes of a bag, read one after the other.

    Attributes:
        path: the bag: an MCAP file, or its folder.
        options: how the bag is read.
        layout: the agents and topics that were found.
        clouds: number of the ego's clouds: there are at most so many scenes.
        left_out: what was left out while the scenes were read, and how often.
    """

    def __init__(self, path: Path, options: BagOptions | None = None) -> None:
        """Look through a bag; its data are read by `scenes`.

        Raises:
            DatasetError: the path is no whole bag, or it is not clear which agents it has.
            UserError: rosbags is not installed.
        """
        require_rosbags()
        self.path, self.options = path, options or BagOptions()
        self.left_out: Counter[str] = Counter()
        from rosbags.rosbag2 import Reader

        with bag_errors_naming(path), Reader(_storage(path)) as reader:
            detections = [connection for connection in reader.connections if connection.msgtype == DETECTIONS]
            self._messages = Messages(detections[0] if detections else None)
            finder = LayoutFinder(reader, self._messages, self.options)
            self.layout, self._tree = finder.find(), finder.tree
            self.clouds = sum(each.msgcount for each in reader.connections if each.topic == self.layout.agents[0].cloud)

    @property
    def notes(self) -> tuple[str, ...]:
        """What has to be known about the scenes: distorted images, and everything that was left out so far."""
        cameras = [camera for agent in self.layout.agents for camera in agent.cameras]
        bent = [camera.frame for camera in cameras if np.any(np.asarray(camera.info.d) != 0)]
        notes = [f"images of {frame} are distorted by the lens, and are taken as they are" for frame in bent]
        return (*notes, *(f"left out: {count} {what}" for what, count in sorted(self.left_out.items())))

    def scenes(self) -> Iterator[Scene]:
        """Yield the scenes; a cloud of the ego without a pose, image or label of about the same time is left out and counted.

        Raises:
            DatasetError: the bag is damaged, or holds something that cannot be read.
        """
        assembly = _Assembly(self, self._messages, self._tree)
        with bag_errors_naming(self.path):
            yield from assembly.run()


class _Assembly:
    """One reading of a bag: keeps the messages of about a second, and puts scenes together from them."""

    def __init__(self, bag: BagScenes, messages: Messages, tree: TransformTree) -> None:
        self._bag, self._layout, self._messages, self._tree = bag, bag.layout, messages, tree
        self._tolerance_ns = bag.options.tolerance_ns
        self._objects = ObjectReader(bag.options.classes)
        self._numbers = FrameNumbers()
        self._kept: dict[str, deque[_Recorded]] = defaultdict(lambda: deque(maxlen=_MOST_KEPT))

    def run(self) -> Iterator[Scene]:
        """Yield the scenes in the order of the ego's clouds."""
        from rosbags.rosbag2 import Reader

        bag, wanted, ego_cloud = self._bag, self._layout.topics, self._layout.agents[0].cloud
        waiting: deque[tuple[int, int]] = deque()  # when an ego's cloud was recorded, and its time
        with Reader(_storage(bag.path)) as reader:
            used = [each for each in reader.connections if each.topic in wanted or each.msgtype == TRANSFORMS]
            for connection, log_ns, raw in reader.messages(used):
                if connection.msgtype == TRANSFORMS:
                    message = self._messages.decode(raw, TRANSFORMS)
                    self._tree.add(message, static=is_static(connection.topic), log_ns=log_ns)
                    continue
                recorded = _Recorded(stamp_ns(raw), raw, connection.msgtype)
                self._kept[connection.topic].append(recorded)
                if connection.topic == ego_cloud:
                    waiting.append((log_ns, recorded.time_ns))
                while waiting and log_ns > waiting[0][0] + self._tolerance_ns + _DELAY_NS:
                    yield from self._scene(waiting.popleft()[1])
            for _, time_ns in waiting:
                yield from self._scene(time_ns)
        self._bag.left_out.update({f"detections: {what}": count for what, count in self._objects.left_out.items()})

    def _scene(self, time_ns: int) -> Iterator[Scene]:
        """Yield the scene at the time of an ego's cloud, if all of the ego's data are there; forget what is older."""
        ego = self._layout.agents[0]
        frames = [frame for agent in self._layout.agents if (frame := self._frame(agent, time_ns)) is not None]
        objects = self._labels(self._layout.objects, time_ns)
        if frames and frames[0].agent_id == ego.agent_id and objects is not None:
            ids, whole = tuple(frame.agent_id for frame in frames), self._layout.objects is not None
            scene_id = f"{bag_name(self._bag.path)}/{self._numbers.next_stamp(time_ns)}"
            outline = SceneOutline(scene_id, time_ns, ego.agent_id, ids, frames[0].world_SE3_agent, labelled_as_whole=whole)
            together = objects if whole else ObjectLabels.union([frame.objects for frame in frames])
            scene = Scene(outline, tuple(frames), together)
            yield mirrored(scene) if self._layout.mirrored else scene
        for kept in self._kept.values():
            while kept and kept[0].time_ns < time_ns - self._tolerance_ns:
                kept.popleft()

    def _frame(self, agent: AgentTopics, time_ns: int) -> AgentFrame | None:
        """Return an agent's frame at about a time; None, counted, if a part of it is missing."""
        cloud = self._nearest(agent.cloud, time_ns)
        if cloud is None:
            return self._without(agent, "cloud near the ego's")
        pose = self._tree.pose(self._layout.world, agent.cloud_frame, cloud.time_ns, self._tolerance_ns)
        if pose is None:
            return self._without(agent, "transform near the cloud")
        cameras = [self._camera(agent, camera, cloud.time_ns) for camera in agent.cameras]
        views = tuple(view for view in cameras if view is not None)
        objects = self._labels(agent.objects, cloud.time_ns)
        if objects is None or len(views) < len(cameras):
            return self._without(agent, f"{'labels' if objects is None else 'image'} near the cloud")
        with self._naming(agent.cloud, cloud):
            points = cloud_points(self._messages.decode(cloud.raw, cloud.kind), self._layout.intensity_top)
        return AgentFrame(agent.agent_id, agent.kind, cloud.time_ns, pose, pose, LidarScan(points), views, objects)

    def _without(self, agent: AgentTopics, part: str) -> AgentFrame | None:
        """Count a frame that is left out because it lacks a part; return None in its place."""
        self._bag.left_out[f"frames of agent {agent.agent_id} without {part}"] += 1
        return None

    def _camera(self, agent: AgentTopics, camera: CameraTopics, time_ns: int) -> CameraView | None:
        """Return a camera's image at about a time; None if there is none, or no depth image where there should be one."""
        image = self._nearest(camera.image, time_ns)
        depth = self._nearest(camera.depth, time_ns) if camera.depth else None
        body_SE3_cloud, body_SE3_camera = (
            self._tree.pose(agent.body, frame, time_ns, self._tolerance_ns) for frame in (agent.cloud_frame, camera.frame)
        )
        if image is None or (camera.depth and depth is None) or body_SE3_cloud is None or body_SE3_camera is None:
            return None
        with self._naming(camera.image, image):
            pixels = image_of(self._messages.decode(image.raw, image.kind), image.kind)
            depth_m = None if depth is None else depth_of(self._messages.decode(depth.raw, depth.kind))
            pose = relative_SE3(body_SE3_cloud, body_SE3_camera)
            return CameraView(camera.name, pixels, intrinsic_of(camera.info), pose, depth_m)

    def _labels(self, topic: str | None, time_ns: int) -> ObjectLabels | None:
        """Return the labels of a topic at about a time; none at all without a topic, None if the topic has no message there."""
        if topic is None:
            return ObjectLabels.empty()
        recorded = self._nearest(topic, time_ns)
        if recorded is None:
            return None
        with self._naming(topic, recorded):
            message = self._messages.decode(recorded.raw, recorded.kind)
            frame = frame_name(message.header.frame_id)
            pose = self._tree.pose(self._layout.world, frame, recorded.time_ns, self._tolerance_ns)
            return None if pose is None else self._objects.objects(message, pose)

    def _nearest(self, topic: str, time_ns: int) -> _Recorded | None:
        """Return the message of a topic that is nearest to a time, if it is within the tolerance."""
        nearest = min(self._kept[topic], key=lambda recorded: abs(recorded.time_ns - time_ns), default=None)
        return nearest if nearest and abs(nearest.time_ns - time_ns) <= self._tolerance_ns else None

    def _naming(self, topic: str, recorded: _Recorded) -> AbstractContextManager[None]:
        return bag_errors_naming(self._bag.path, f"{topic} at {recorded.time_ns} ns: ")


def is_bag(path: Path) -> bool:
    """Whether a path is a bag of ROS 2: an MCAP file, or the folder of one."""
    return path.suffix == ".mcap" if path.is_file() else (path / "metadata.yaml").is_file() or len(_files(path)) == 1


def bag_name(path: Path) -> str:
    """Return the name of a bag, which becomes the name of a scenario."""
    return path.stem if path.suffix == ".mcap" else path.name


def _storage(path: Path) -> Path:
    """Return what rosbags opens: a folder with metadata.yaml, or a file."""
    if not path.exists():
        raise DatasetError(path, "no such file or folder")
    if path.is_file() or (path / "metadata.yaml").is_file():
        return path
    files = _files(path)
    if len(files) != 1:
        raise DatasetError(path, f"expected metadata.yaml or one .mcap file in the folder of a bag, got {len(files)} .mcap files")
    return files[0]


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.mcap"))
