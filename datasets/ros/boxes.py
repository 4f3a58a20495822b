"""Labelled objects as Detection3DArray messages: boxes in the world frame, with the ids of the objects."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np

from heal.box_corners import corners_to_oriented, oriented_to_corners
from heal.datasets.labels import WITHOUT_SIZE, class_of_name
from heal.datasets.ros.messages import DETECTIONS, Messages
from heal.datasets.ros.transforms import matrix_of, quaternion_of, vector_message
from heal.detection.classes import VEHICLE, VEHICLES, Classes
from heal.types import Float64, ObjectLabels

_NUMBER = re.compile(r"-?\d{1,18}")
_FIRST_MADE_ID = 10**18


def objects_message(messages: Messages, header: Any, objects: ObjectLabels, classes: Classes = VEHICLES) -> Any:
    """Make the message of objects in the world frame, which the header names.

    The class of an object becomes the first type of its class; of vehicles alone it is "vehicle".
    """
    names = [VEHICLE] if classes == VEHICLES else [one.types[0] for one in classes]
    poses, sizes = corners_to_oriented(objects.world_corners)
    detections = [
        messages.make(
            "vision_msgs/msg/Detection3D",
            header=header,
            results=[_hypothesis(messages, pose, names[kind])],
            bbox=messages.make("vision_msgs/msg/BoundingBox3D", center=pose, size=vector_message(messages, size)),
            id=str(number),
        )
        for number, kind, size, pose in zip(
            objects.ids.tolist(), objects.classes.tolist(), sizes, (_pose(messages, matrix) for matrix in poses), strict=True
        )
    ]
    return messages.make(DETECTIONS, header=header, detections=detections)


def _pose(messages: Messages, matrix: Float64) -> Any:
    (x, y, z), (i, j, k, w) = matrix[:3, 3].tolist(), quaternion_of(matrix[:3, :3]).tolist()
    return messages.make(
        "geometry_msgs/msg/Pose",
        position=messages.make("geometry_msgs/msg/Point", x=x, y=y, z=z),
        orientation=messages.make("geometry_msgs/msg/Quaternion", x=i, y=j, z=k, w=w),
    )


def _hypothesis(messages: Messages, pose: Any, name: str) -> Any:
    return messages.make(
        "vision_msgs/msg/ObjectHypothesisWithPose",
        hypothesis=messages.make("vision_msgs/msg/ObjectHypothesis", class_id=name, score=1.0),
        pose=messages.make("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=np.zeros(36)),
    )


class ObjectReader:
    """Reads the objects of one bag. Ids that are no numbers get numbers, the same id the same one.

    Attributes:
        left_out: number of detections that became no object, by class or as `labels.WITHOUT_SIZE`.
    """

    def __init__(self, classes: Classes = VEHICLES) -> None:
        """Start without any id; the objects of some classes are wanted."""
        self._classes = classes
        self.left_out: Counter[str] = Counter()
        self._made_ids: dict[str, int] = {}
        self._nameless = 0

    def objects(self, message: Any, world_SE3_frame: Float64) -> ObjectLabels:
        """Return the objects of the wanted classes with a size of a message.

        Args:
            message: the Detection3DArray.
            world_SE3_frame: (4, 4) pose of the frame that the message's header names.
        """
        ids, poses, sizes, numbers = [], [], [], []
        for detection in message.detections:
            box = detection.bbox
            size = [box.size.x, box.size.y, box.size.z]
            kind = _class_of(detection)
            has_size = all(0 < length < np.inf for length in size)
            number = class_of_name(kind, self._classes)
            if not has_size or number is None:
                self.left_out[kind if has_size else WITHOUT_SIZE] += 1
                continue
            ids.append(self._id(getattr(detection, "id", "") or getattr(detection, "tracking_id", "")))
            poses.append(world_SE3_frame @ matrix_of(box.center.position, box.center.orientation))
            sizes.append(size)
            numbers.append(number)
        corners = oriented_to_corners(np.array(poses).reshape(-1, 4, 4), np.array(sizes).reshape(-1, 3))
        return ObjectLabels(np.array(ids, np.int64), corners, np.array(numbers, np.int64))

    def _id(self, text: str) -> int:
        """Return the number of an object; an object without an id gets one that no other has."""
        if _NUMBER.fullmatch(text):
            return int(text)
        if not text:
            self._nameless += 1
            return -_FIRST_MADE_ID - self._nameless
        return self._made_ids.setdefault(text, _FIRST_MADE_ID + len(self._made_ids))


def _class_of(detection: Any) -> str:
    """Return the class of a detection's best result; a detection without a class counts as a vehicle."""
    names = []
    for result in detection.results:
        hypothesis = getattr(result, "hypothesis", result)  # older versions of vision_msgs have id and score in the result
        names.append((float(hypothesis.score), str(getattr(hypothesis, "class_id", getattr(hypothesis, "id", "")))))
    best = max(names, default=(0.0, ""))[1]
    return best or VEHICLE
