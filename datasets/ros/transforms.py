"""The tree of transforms of a bag: frames, their parents, and the poses in between, at any time."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Any

import numpy as np

from heal.datasets.ros.messages import Messages, time_ns
from heal.se3 import quaternions_to_SE3
from heal.types import Float64

_MOST_FRAMES = 100  # from a frame up to the world; more is a circle


def transform_message(messages: Messages, header: Any, child: str, parent_SE3_child: Float64) -> Any:
    """Make the TransformStamped of a pose (4, 4) in the frame of the header; a rotation that is a little off is corrected."""
    x, y, z, w = quaternion_of(parent_SE3_child[:3, :3]).tolist()
    transform = messages.make(
        "geometry_msgs/msg/Transform",
        translation=vector_message(messages, parent_SE3_child[:3, 3]),
        rotation=messages.make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w),
    )
    return messages.make("geometry_msgs/msg/TransformStamped", header=header, child_frame_id=child, transform=transform)


def vector_message(messages: Messages, values: Float64) -> Any:
    """Make a Vector3 of three numbers."""
    x, y, z = values.tolist()
    return messages.make("geometry_msgs/msg/Vector3", x=x, y=y, z=z)


def matrix_of(translation: Any, rotation: Any) -> Float64:
    """Return the transform (4, 4) of a Vector3 or Point and a Quaternion; ValueError unless it is finite and turns."""
    quaternion = np.array([rotation.x, rotation.y, rotation.z, rotation.w])
    place = np.array([translation.x, translation.y, translation.z])
    length = float(np.linalg.norm(quaternion))
    if not (np.isfinite(place).all() and 0.99 < length < 1.01):
        raise ValueError(f"expected a finite place and a quaternion of length 1, got {place.tolist()} and {quaternion.tolist()}")
    return _matrix(place, quaternion)


def _matrix(place: Float64, quaternion: Float64) -> Float64:
    """Return the transform (4, 4) of a place and a quaternion x, y, z, w of any length, in ROS's order."""
    return quaternions_to_SE3(place, np.roll(quaternion, 1))


def quaternion_of(rotation: Float64) -> Float64:
    """Return the unit quaternion (4,) x, y, z, w of the rotation that is nearest to a matrix (3, 3), which may be a little off.

    It is the eigenvector of the largest eigenvalue of a symmetric matrix (Bar-Itzhack, 2000), which is exact everywhere.
    """
    (a, b, c), (d, e, f), (g, h, i) = rotation.tolist()
    symmetric = np.array(
        [
            [a - e - i, d + b, g + c, h - f],
            [d + b, e - a - i, h + f, c - g],
            [g + c, h + f, i - a - e, d - b],
            [h - f, c - g, d - b, a + e + i],
        ]
    )
    quaternion: Float64 = np.linalg.eigh(symmetric)[1][:, -1]
    return quaternion if quaternion[3] >= 0 else -quaternion


@dataclass
class _Edge:
    """A frame's poses in its parent, in order of time.

    Attributes:
        parent: the parent frame.
        static: whether the pose holds until a newer one comes.
        times_ns: times of the poses.
        poses: time -> (4, 4) pose.
    """

    parent: str
    static: bool
    times_ns: list[int]
    poses: dict[int, Float64]

    def at(self, time: int, tolerance_ns: int) -> Float64 | None:
        """Return the pose at a time in nanoseconds, between two poses interpolated; None if no pose is near enough."""
        if time in self.poses:
            return self.poses[time]
        after = bisect_left(self.times_ns, time)
        if self.static:
            return self.poses[self.times_ns[max(after - 1, 0)]]
        near = [self.times_ns[index] for index in (after - 1, after) if 0 <= index < len(self.times_ns)]
        if len(near) == 2:
            return _between(self.poses[near[0]], self.poses[near[1]], (time - near[0]) / (near[1] - near[0]))
        return self.poses[near[0]] if abs(near[0] - time) <= tolerance_ns else None


class TransformTree:
    """All transforms of a bag that have been read so far."""

    def __init__(self) -> None:
        """Start without any frame."""
        self._edges: dict[str, _Edge] = {}

    def add(self, message: Any, *, static: bool, log_ns: int) -> None:
        """Add the transforms of a TFMessage; static ones count from the time at which they were recorded."""
        for entry in message.transforms:
            parent, child = frame_name(entry.header.frame_id), frame_name(entry.child_frame_id)
            pose = matrix_of(entry.transform.translation, entry.transform.rotation)
            time = log_ns if static else time_ns(entry.header)
            edge = self._edges.get(child)
            if edge is None or edge.parent != parent:
                edge = self._edges[child] = _Edge(parent, static, [], {})
            if time not in edge.poses:
                insort(edge.times_ns, time)
            edge.poses[time] = pose

    def frames(self) -> set[str]:
        """Return all frames, parents and children."""
        return {frame for child, edge in self._edges.items() for frame in (child, edge.parent)}

    def body_of(self, frame: str, world: str) -> str:
        """Return the frame of the body that carries a frame: the last one below the world that static transforms lead to."""
        for _ in range(_MOST_FRAMES):
            edge = self._edges.get(frame)
            if edge is None or not edge.static or edge.parent == world:
                return frame
            frame = edge.parent
        raise ValueError(f"the transforms lead in a circle at the frame {frame!r}")

    def pose(self, world: str, frame: str, time: int, tolerance_ns: int) -> Float64 | None:
        """Return `world_SE3_frame` at a time in nanoseconds; None if it is not known there.

        Raises:
            ValueError: the transforms do not lead from the frame to the world at all.
        """
        world_SE3_frame, above, chain = np.eye(4), frame, [frame]
        while above != world:
            edge = self._edges.get(above)
            if edge is None or len(chain) > _MOST_FRAMES:
                raise ValueError(f"no transforms lead from the frame {frame!r} to {world!r}, only {' -> '.join(chain[:10])}")
            step = edge.at(time, tolerance_ns)
            if step is None:
                return None
            world_SE3_frame = step @ world_SE3_frame
            above = edge.parent
            chain.append(above)
        return world_SE3_frame


def frame_name(text: str) -> str:
    """Return a frame's name; older programs begin it with a slash."""
    return text.removeprefix("/")


def _between(first: Float64, second: Float64, share: float) -> Float64:
    """Return the pose at a share of the way from one pose to another: places on a line, rotations at a constant rate."""
    a, b = quaternion_of(first[:3, :3]), quaternion_of(second[:3, :3])
    cosine = float(a @ b)
    b, cosine = (-b, -cosine) if cosine < 0 else (b, cosine)
    angle = np.arccos(min(cosine, 1.0))
    weights = np.array([1 - share, share]) if angle < 1e-6 else np.sin([(1 - share) * angle, share * angle]) / np.sin(angle)
    mixed = weights[0] * a + weights[1] * b
    return _matrix((1 - share) * first[:3, 3] + share * second[:3, 3], mixed)
