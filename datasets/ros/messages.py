"""The messages of ROS 2 that scenes are made of, encoded and decoded by the library rosbags; no ROS is needed."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heal.datasets.dataset import DatasetError
from heal.errors import UserError, require_package

if TYPE_CHECKING:
    from rosbags.interfaces import Connection

CLOUD, IMAGE, COMPRESSED = "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA_INFO, TRANSFORMS, TEXT = "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage", "std_msgs/msg/String"
DETECTIONS = "vision_msgs/msg/Detection3DArray"
# Of vision_msgs 4, which is no part of a plain installation of ROS 2: https://github.com/ros-perception/vision_msgs
_VISION_MESSAGES = {
    "vision_msgs/msg/BoundingBox3D": "geometry_msgs/Pose center\ngeometry_msgs/Vector3 size\n",
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score\n",
    "vision_msgs/msg/ObjectHypothesisWithPose": (
        "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n"
    ),
    "vision_msgs/msg/Detection3D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\nvision_msgs/BoundingBox3D bbox\nstring id\n"
    ),
    DETECTIONS: "std_msgs/Header header\nvision_msgs/Detection3D[] detections\n",
}
_LAST_SECOND = 2**31


def require_rosbags() -> None:
    """Raise UserError if the library for bags is not installed."""
    require_package("rosbags", "ros", "reading or writing a bag of ROS 2")


class Messages:
    """Makes, encodes and decodes messages.

    Attributes:
        store: the type store of rosbags, with the types of ROS 2 Humble and of vision_msgs.
    """

    def __init__(self, detections: Connection | None = None) -> None:
        """Load the definitions.

        Args:
            detections: a topic of detections in a bag; its definitions are taken, because versions of vision_msgs differ.
        """
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore

        self.store: Any = get_typestore(Stores.ROS2_HUMBLE)
        texts = dict(_VISION_MESSAGES)
        if detections is not None and detections.msgdef.format.name == "MSG":
            texts = {detections.msgtype: detections.msgdef.data}
        for name, text in texts.items():
            types = get_types_from_msg(text, name)
            self.store.register({kind: fields for kind, fields in types.items() if kind.startswith("vision_msgs/")})

    def make(self, kind: str, **fields: Any) -> Any:
        """Make a message; every field must be given."""
        return self.store.types[kind](**fields)

    def header(self, time_ns: int, frame_id: str) -> Any:
        """Make a header; UserError for a time that ROS cannot express."""
        require_time(time_ns)
        seconds, rest = divmod(time_ns, 10**9)
        stamp = self.make("builtin_interfaces/msg/Time", sec=seconds, nanosec=rest)
        return self.make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)

    def encode(self, message: Any) -> bytes | memoryview:
        """Return a message as bytes (CDR)."""
        encoded: bytes | memoryview = self.store.serialize_cdr(message, message.__msgtype__)
        return encoded

    def decode(self, raw: bytes, kind: str) -> Any:
        """Return the message of some bytes (CDR)."""
        return self.store.deserialize_cdr(raw, kind)


def require_time(time_ns: int) -> None:
    """Raise UserError for a time in nanoseconds that ROS cannot express."""
    if not 0 <= time_ns < _LAST_SECOND * 10**9:
        raise UserError(f"expected a time from 0 to {_LAST_SECOND} s since 1970, got {time_ns} ns; ROS 2 has no other times")


def stamp_ns(raw: bytes) -> int:
    """Return the time in nanoseconds of an encoded message whose first field is a header; nothing else is decoded."""
    seconds, rest = struct.unpack_from("<iI" if raw[1] & 1 else ">iI", raw, 4)
    return int(seconds) * 10**9 + int(rest)


def time_ns(header: Any) -> int:
    """Return the time of a header in nanoseconds."""
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)


@contextmanager
def bag_errors_naming(path: Path, where: str = "") -> Iterator[None]:
    """Turn the errors that the content of a bag can cause into a DatasetError that names the bag."""
    from rosbags.rosbag2 import ReaderError
    from rosbags.serde import SerdeError
    from rosbags.typesys import TypesysError

    # The decompressor of rosbags, which is a part of Python from 3.14 on.
    if sys.version_info >= (3, 14):
        from compression.zstd import ZstdError
    else:
        from backports.zstd import ZstdError

    try:
        yield
    except DatasetError:
        raise
    except (ReaderError, SerdeError, TypesysError, ZstdError) as error:
        raise DatasetError(path, f"{where}not a whole bag of ROS 2: {error}; `mcap recover` may save what is whole") from error
    except OSError as error:
        raise DatasetError(path, f"{where}{error.strerror or error}") from error
    except _CONTENT_ERRORS as error:
        raise DatasetError(path, f"{where}damaged: {str(error) or type(error).__name__}") from error


# What rosbags and its decompressors raise for bytes that are not what they should be.
_CONTENT_ERRORS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    OverflowError,
    EOFError,
    RuntimeError,
    MemoryError,
    struct.error,
)
