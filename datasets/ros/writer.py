"""Write scenes as a bag of ROS 2 in an MCAP file.

/tf                               map -> agent_1001/base, the agent's LiDAR frame (x forward, y left, z up)
/tf_static                        agent_1001/base -> agent_1001/camera0_optical (x right, y down, z forward)
/agent_1001/lidar                 PointCloud2: x, y, z in metres, intensity in [0, 1], float32
/agent_1001/camera0/image/compressed, or image    CompressedImage, or Image
/agent_1001/camera0/camera_info   CameraInfo
/agent_1001/camera0/depth         Image 32FC1, metres
/agent_1001/objects, or /objects  Detection3DArray in the frame map
/recording                        String: what ROS has no message for, as JSON
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heal.datasets.checksums import CHECKSUMS_NAME, checksums_text
from heal.datasets.files import read_yaml, write_yaml
from heal.datasets.ros.boxes import objects_message
from heal.datasets.ros.clouds import cloud_message
from heal.datasets.ros.handedness import mirrored
from heal.datasets.ros.images import ImageForm, depth_message, image_message, info_message
from heal.datasets.ros.messages import TEXT, TRANSFORMS, Messages, require_rosbags, require_time
from heal.datasets.ros.names import BASE, OBJECTS, RECORDING, TF, TF_STATIC, WORLD, TopicNames, agent_name
from heal.datasets.ros.transforms import transform_message
from heal.detection.classes import VEHICLES, Classes
from heal.errors import UserError
from heal.types import AgentFrame, CameraView, Float64, Scene

if TYPE_CHECKING:
    from rosbags.interfaces import Qos
    from rosbags.rosbag2 import Writer

RECORDING_VERSION = 1
MADE_FROM = "made_from.yaml"
_SAME_M = 1e-9  # a camera that has moved by less is where it was


def write_bag(
    scenes: Iterable[Scene],
    folder: Path,
    *,
    left_handed: bool,
    images: ImageForm = "png",
    labelled: bool = True,
    classes: Classes = VEHICLES,
    made_from: Mapping[str, Any] | None = None,
) -> int:
    """Write scenes as a bag, with a SHA-256 for each of its files; return the number of scenes.

    A bag that is there is complete. Measured poses, and a LiDAR's number of lines, are not written.

    Args:
        scenes: in the order of their times. They are taken one by one, so a generator need not hold them all.
        folder: the bag, FOLDER/NAME.mcap and FOLDER/metadata.yaml; it must not exist.
        left_handed: whether the scenes' world is, as OPV2V's is. Then the bag holds their mirror image, and `/recording` says so.
        images: png or jpeg for CompressedImage, raw for Image; only JPEG changes the pixels.
        labelled: False for scenes without labels, which is something else than scenes without objects.
        classes: the classes of the objects.
        made_from: content of made_from.yaml; it tells later what the bag was made from.

    Raises:
        FileExistsError: the folder exists.
        UserError: there is no scene, an agent without a cloud, or a time that does not grow or that ROS does not know.
    """
    require_rosbags()
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; remove it or choose another name")
    partial = folder.with_name(f".{folder.name}.partial")
    made = partial / folder.name  # the name is written into the bag
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    try:
        count = _write(scenes, made, left_handed, _Content(images, labelled, classes))
        _write_records(made, made_from or {})
        made.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return count


def _write_records(folder: Path, made_from: Mapping[str, Any]) -> None:
    """Write what a bag was made from, and the SHA-256 of each of its files."""
    write_yaml(folder / MADE_FROM, made_from)
    sums = checksums_text((path.name, path) for path in sorted(folder.iterdir()))
    (folder / CHECKSUMS_NAME).write_text(sums, encoding="utf-8")


def read_made_from(folder: Path) -> Any:
    """Return what a bag was made from; None if there is no bag."""
    return read_yaml(folder / MADE_FROM) if folder.exists() else None


@dataclass(frozen=True)
class _Content:
    """What of scenes is written: the form of images, whether there are labels, and the classes of objects."""

    images: ImageForm
    labelled: bool
    classes: Classes


def _write(scenes: Iterable[Scene], folder: Path, left_handed: bool, content: _Content) -> int:
    """Write the MCAP file and the metadata of a bag; return the number of scenes."""
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

    writer, count, last_ns = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP), 0, 0
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        bag = _Bag(Messages(), writer, content)
        for scene in scenes:
            time = scene.outline.timestamp_ns
            if count and time <= last_ns:
                raise UserError(
                    f"scene {scene.outline.scene_id}: expected a time after {last_ns} ns, got {time} ns, because a bag keeps its "
                    "messages by their times"
                )
            if not count:
                bag.put_recording(time, left_handed)
            last_ns, count = time, count + 1
            bag.put_scene(mirrored(scene) if left_handed else scene)
    if not count:
        raise UserError(f"{folder.name}: expected at least one scene, got none")
    return count


class _Bag:
    """A bag that is being written."""

    def __init__(self, messages: Messages, writer: Writer, content: _Content) -> None:
        self._messages, self._writer, self._content = messages, writer, content
        self._names = TopicNames()
        self._connections: dict[str, Any] = {}
        self._static: dict[str, Float64] = {}  # frame of a camera -> its pose as last written

    def put_recording(self, time_ns: int, left_handed: bool) -> None:
        """Write what a reader needs to give the scenes back as they were."""
        text = json.dumps({"version": RECORDING_VERSION, "mirrored": left_handed, "intensity_scale": 1.0})
        self._put(RECORDING, time_ns, self._messages.make(TEXT, data=text))

    def put_scene(self, scene: Scene) -> None:
        """Write all messages of a scene."""
        for frame in scene.frames:
            self._put_frame(frame)
        if self._content.labelled and scene.outline.labelled_as_whole:
            header = self._messages.header(scene.outline.timestamp_ns, WORLD)
            message = objects_message(self._messages, header, scene.objects, self._content.classes)
            self._put(OBJECTS, scene.outline.timestamp_ns, message)

    def _put_frame(self, frame: AgentFrame) -> None:
        """Write an agent's pose, cloud, images and labels, all at the time of the frame."""
        name, time = agent_name(frame.kind, frame.agent_id), frame.timestamp_ns
        if frame.lidar is None:
            raise UserError(f"agent {frame.agent_id!r}: expected a point cloud, got none; in a bag an agent is known by its clouds")
        base, space = f"{name}/{BASE}", self._names.under("", name)
        self._put_transform(TF, time, (WORLD, base), frame.world_SE3_agent)
        message = cloud_message(self._messages, self._messages.header(time, base), frame.lidar.points)
        self._put(f"{space}/lidar", time, message)
        for view in frame.cameras:
            self._put_camera(time, view, (base, f"{name}/{view.name}_optical"), self._names.under(space, view.name))
        if self._content.labelled:
            message = objects_message(self._messages, self._messages.header(time, WORLD), frame.objects, self._content.classes)
            self._put(f"{space}{OBJECTS}", time, message)

    def _put_camera(self, time_ns: int, view: CameraView, frames: tuple[str, str], space: str) -> None:
        """Write a camera's image, matrix and depth, and its pose where that is new."""
        known = self._static.get(frames[1])
        if known is None or np.abs(known - view.agent_SE3_camera).max() > _SAME_M:
            self._static[frames[1]] = view.agent_SE3_camera
            self._put_transform(TF_STATIC, time_ns, frames, view.agent_SE3_camera)
        header = self._messages.header(time_ns, frames[1])
        topic = f"{space}/image" if self._content.images == "raw" else f"{space}/image/compressed"
        self._put(topic, time_ns, image_message(self._messages, header, view.image, self._content.images))
        self._put(f"{space}/camera_info", time_ns, info_message(self._messages, header, view))
        if view.depth_m is not None:
            self._put(f"{space}/depth", time_ns, depth_message(self._messages, header, view.depth_m))

    def _put_transform(self, topic: str, time_ns: int, frames: tuple[str, str], parent_SE3_child: Float64) -> None:
        header = self._messages.header(time_ns, frames[0])
        transform = transform_message(self._messages, header, frames[1], parent_SE3_child)
        self._put(topic, time_ns, self._messages.make(TRANSFORMS, transforms=[transform]))

    def _put(self, topic: str, time_ns: int, message: Any) -> None:
        require_time(time_ns)
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, message.__msgtype__, typestore=self._messages.store, offered_qos_profiles=_qos(topic)
            )
        self._writer.write(self._connections[topic], time_ns, self._messages.encode(message))


def _qos(topic: str) -> list[Qos]:
    """Return how a topic is offered when the bag is played: what is said once is kept for those who join later."""
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

    said_once = topic in (TF_STATIC, RECORDING)
    durability = QosDurability.TRANSIENT_LOCAL if said_once else QosDurability.VOLATILE
    history = QosHistory.KEEP_ALL if said_once else QosHistory.KEEP_LAST
    never = QosTime(9223372036, 854775807)
    liveliness = QosLiveliness.AUTOMATIC
    return [Qos(history, 10, QosReliability.RELIABLE, durability, never, never, liveliness, never, False)]
