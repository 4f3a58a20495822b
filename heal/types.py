"""The data types that modules exchange: a scene as its agents sense it, and the sources that scenes come from.

A `SceneSource`, such as a data set on disk or the built-in town, gives scenes. A `Scene` is one instant: an `AgentFrame` for every
agent, with its poses, its LiDAR scan, its camera views and the objects labelled around it. A `SceneOutline` is a scene without
sensor data. A `SensorChoice` names the sensors of an agent that a source has to read.

All types are frozen and check their arguments at construction, so no other module checks them again. Poses are 4x4 float64 matrices
named `a_SE3_b`; they map coordinates of frame b into frame a. An agent's frame is its LiDAR frame: x forward, z up, in metres.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from heal.config import config

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]
BoolMask = npt.NDArray[np.bool_]

AgentKind = Literal["vehicle", "roadside"]
Sensor = Literal["lidar", "camera", "depth"]
# The names of roadside units in the data sets: a negative number, or a word.
_ROADSIDE_NAME = re.compile(r"-\d+|(rsu|infra|infrastructure|roadside)([_-]?\w+)?", re.IGNORECASE)
# Numbers of laser lines that a LiDAR may have.
BEAMS = (16, 32, 64)

# What agents send: feature maps, and the base's trunk runs at the fusion node ("feature") or at the sender ("pyramid"); or the
# boxes that each agent finds alone ("boxes", late fusion); or the points of its LiDAR ("points", early fusion).
Split = Literal["feature", "pyramid", "boxes", "points"]
SPLITS: tuple[Split, ...] = get_args(Split)
MAP_SPLITS: tuple[Split, ...] = ("feature", "pyramid")
# The lowest foreground score of a cell that an agent sees. A score of 0 marks a cell that the agent does not see or has not sent.
SCORE_FLOOR = 1e-4


def is_roadside_name(name: str) -> bool:
    """Whether an agent's name is that of a roadside unit: a negative number, or a name such as "rsu" or "infra_1"."""
    return _ROADSIDE_NAME.fullmatch(name) is not None


def require_shape(name: str, array: npt.NDArray[Any], shape: tuple[int | None, ...]) -> None:
    """Raise ValueError unless `array` has `shape`; None stands for any length."""
    fits = array.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{name}: expected an array of shape ({wanted}), got {array.shape}")


_IDENTITY, _LAST_ROW = np.eye(3), np.array([0.0, 0.0, 0.0, 1.0])


def _all_close(found: Float64, expected: Float64, absolute: float) -> bool:
    """Compare finite numbers as `numpy.allclose` does, which takes longer than every other check of a message's pose together."""
    return bool((np.abs(found - expected) <= absolute + 1e-5 * np.abs(expected)).all())


def require_SE3(name: str, matrix: Float64, *, may_mirror: bool = False) -> None:
    """Raise ValueError unless `matrix` is a finite 4x4 rigid transform that does not mirror space, unless it may."""
    require_shape(name, matrix, (4, 4))
    rotation = matrix[:3, :3]
    finite = np.isfinite(matrix).all()
    if not (finite and _all_close(rotation @ rotation.T, _IDENTITY, 1e-3) and _all_close(matrix[3], _LAST_ROW, 1e-8)):
        rows = matrix.tolist()
        raise ValueError(f"{name}: expected a rigid 4x4 transform (rotation, translation, last row 0 0 0 1), got {rows}")
    if not may_mirror and _mirrors(rotation):
        raise ValueError(
            f"{name}: expected a rotation with determinant +1; this one mirrors space (determinant -1): {rotation.tolist()}"
        )


def _mirrors(rotation: Float64) -> bool:
    """Whether an orthogonal matrix (3, 3) has the determinant -1. Python's own numbers take a tenth of the time of numpy's."""
    (a, b, c), (d, e, f), (g, h, i) = rotation.tolist()
    return bool(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g) < 0)


@dataclass(frozen=True)
class LidarScan:
    """One LiDAR sweep.

    Attributes:
        points: (N, 4) float32: x, y, z in metres in the agent's frame, intensity in [0, 1].
        beams: number of laser lines; None if it is unknown.
    """

    points: Float32
    beams: int | None = None

    def __post_init__(self) -> None:
        """Check shape and type."""
        require_shape("LidarScan.points", self.points, (None, 4))
        if self.points.dtype != np.float32:
            raise ValueError(f"LidarScan.points: expected float32, got {self.points.dtype}")


@dataclass(frozen=True)
class CameraView:
    """One camera image with its calibration.

    Attributes:
        name: the camera's name, such as "camera0".
        image: (H, W, 3) uint8, RGB.
        intrinsic: (3, 3) float64, pixels.
        agent_SE3_camera: (4, 4) float64; the camera's axes are x right, y down, z forward (OpenCV).
        depth_m: (H, W) float32 distance along the camera's z axis in metres, or None.
    """

    name: str
    image: UInt8
    intrinsic: Float64
    agent_SE3_camera: Float64
    depth_m: Float32 | None = None

    def __post_init__(self) -> None:
        """Check the shapes."""
        require_shape("CameraView.image", self.image, (None, None, 3))
        require_shape("CameraView.intrinsic", self.intrinsic, (3, 3))
        # The cameras of OPV2V and of the town join a left-handed world to right-handed image axes.
        require_SE3("CameraView.agent_SE3_camera", self.agent_SE3_camera, may_mirror=True)
        if self.depth_m is not None:
            require_shape("CameraView.depth_m", self.depth_m, self.image.shape[:2])


@dataclass(frozen=True)
class ObjectLabels:
    """Labelled objects in the world frame, the same for every agent that looks at them.

    Attributes:
        ids: (N,) int64, unique within a scene.
        world_corners: (N, 8, 3) float64, metres in the world frame, in the corner order of `heal.box_corners`.
        classes: (N,) int64, number of each object's class among those that the source was opened with (`heal.detection.classes`).
            May be left out where there is one class: all numbers are then 0.
    """

    ids: Int64
    world_corners: Float64
    classes: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        """Fill in the classes, and check the shapes, and that all fields have the same N."""
        require_shape("ObjectLabels.ids", self.ids, (None,))
        require_shape("ObjectLabels.world_corners", self.world_corners, (len(self.ids), 8, 3))
        if not len(self.classes):
            object.__setattr__(self, "classes", np.zeros(len(self.ids), np.int64))
        require_shape("ObjectLabels.classes", self.classes, (len(self.ids),))

    def __len__(self) -> int:
        """Return the number of labelled objects."""
        return len(self.ids)

    def select(self, keep: BoolMask) -> ObjectLabels:
        """Return the objects for which `keep` (N,) is true."""
        return ObjectLabels(self.ids[keep], self.world_corners[keep], self.classes[keep])

    @staticmethod
    def empty() -> ObjectLabels:
        """Return labels without any object."""
        return ObjectLabels(np.zeros(0, np.int64), np.zeros((0, 8, 3)))

    @staticmethod
    def union(parts: list[ObjectLabels]) -> ObjectLabels:
        """Join the objects of `parts`; of several objects with the same id, the first is kept."""
        if not parts:
            return ObjectLabels.empty()
        ids = np.concatenate([part.ids for part in parts])
        corners = np.concatenate([part.world_corners for part in parts])
        classes = np.concatenate([part.classes for part in parts])
        _, first = np.unique(ids, return_index=True)
        keep = np.sort(first)
        return ObjectLabels(ids[keep], corners[keep], classes[keep])


@dataclass(frozen=True)
class AgentFrame:
    """The measurements of one agent at one instant, and the objects labelled around it.

    Attributes:
        agent_id: unique in the scene, such as "641" or "roadside-1".
        kind: a vehicle or a roadside unit.
        timestamp_ns: the time of the measurements.
        world_SE3_agent: (4, 4) float64, the true pose.
        world_SE3_agent_measured: (4, 4) float64, the pose that the agent measures and sends; the true pose unless noise is added.
        lidar: its LiDAR sweep, or None.
        cameras: its camera images; may be empty.
        objects: the objects labelled from this agent's point of view.
    """

    agent_id: str
    kind: AgentKind
    timestamp_ns: int
    world_SE3_agent: Float64
    world_SE3_agent_measured: Float64
    lidar: LidarScan | None = None
    cameras: tuple[CameraView, ...] = ()
    objects: ObjectLabels = field(default_factory=ObjectLabels.empty)

    def __post_init__(self) -> None:
        """Check the poses."""
        require_SE3("AgentFrame.world_SE3_agent", self.world_SE3_agent)
        require_SE3("AgentFrame.world_SE3_agent_measured", self.world_SE3_agent_measured)


@dataclass(frozen=True)
class SceneOutline:
    """A scene without its sensor data: cheap to read, and enough to choose the agents that take part.

    Attributes:
        scene_id: such as "2021_08_22_21_41_24/000069".
        timestamp_ns: the time of the scene.
        ego_id: the agent in whose frame the scene is fused and evaluated.
        agent_ids: all agents, the ego included, in the data set's order.
        world_SE3_ego: (4, 4) float64, the ego's true pose.
        labelled_as_whole: whether the scene has labels of its own, which count whatever agents are in range, instead of those of
            its agents.
        roadside_ego: whether a roadside unit may be drawn as the ego of a training: in DAIR-V2X-C both sides may.
    """

    scene_id: str
    timestamp_ns: int
    ego_id: str
    agent_ids: tuple[str, ...]
    world_SE3_ego: Float64
    labelled_as_whole: bool = False
    roadside_ego: bool = False

    def __post_init__(self) -> None:
        """Check that the ego is one of the agents and that no agent is named twice."""
        require_SE3("SceneOutline.world_SE3_ego", self.world_SE3_ego)
        if self.ego_id not in self.agent_ids:
            raise ValueError(f"scene {self.scene_id}: ego {self.ego_id!r} is not among the agents {list(self.agent_ids)}")
        if len(set(self.agent_ids)) != len(self.agent_ids):
            raise ValueError(f"scene {self.scene_id}: an agent is named twice in {list(self.agent_ids)}")

    @property
    def ego_first(self) -> tuple[str, ...]:
        """The ids of all agents: the ego's first, then the others' in the data set's order."""
        return self.ego_id, *(agent_id for agent_id in self.agent_ids if agent_id != self.ego_id)


@dataclass(frozen=True)
class Scene:
    """One instant of several agents.

    Attributes:
        outline: the ids, the time and the ego.
        frames: the frame of every agent, in the outline's order.
        objects: all labelled objects of the scene.
    """

    outline: SceneOutline
    frames: tuple[AgentFrame, ...]
    objects: ObjectLabels

    def __post_init__(self) -> None:
        """Check that frames and outline name the same agents."""
        ids = tuple(frame.agent_id for frame in self.frames)
        if ids != self.outline.agent_ids:
            raise ValueError(f"scene {self.outline.scene_id}: frames of {ids}, but the outline names {self.outline.agent_ids}")

    @staticmethod
    def of(frames: Sequence[AgentFrame], scene_id: str = "scene") -> Scene:
        """Make a scene of the frames of its agents, the ego's first; its objects are those that any of the agents labels."""
        first, ids = frames[0], tuple(frame.agent_id for frame in frames)
        outline = SceneOutline(scene_id, first.timestamp_ns, first.agent_id, ids, first.world_SE3_agent)
        return Scene(outline, tuple(frames), ObjectLabels.union([frame.objects for frame in frames]))

    @property
    def ego(self) -> AgentFrame:
        """The frame of the ego."""
        return self.frame(self.outline.ego_id)

    @property
    def ego_first(self) -> tuple[AgentFrame, ...]:
        """The frames of all agents: the ego's first, then the others' in the data set's order."""
        return tuple(self.frame(agent_id) for agent_id in self.outline.ego_first)

    def frame(self, agent_id: str) -> AgentFrame:
        """Return the frame of one agent; KeyError if the agent is not in the scene."""
        for frame in self.frames:
            if frame.agent_id == agent_id:
                return frame
        raise KeyError(f"scene {self.outline.scene_id}: no agent {agent_id!r}, there are {list(self.outline.agent_ids)}")


@config
class SensorChoice:
    """The sensor data and labels to read for an agent; its agent type decides, and nothing else is read.

    Attributes:
        lidar: read the LiDAR sweep.
        beams: laser lines of the sweep: 16 or 32 for a thinned cloud, 64 for the agent's own cloud, whatever lines it has. A source
            with one cloud per agent gives that cloud.
        cameras: read the camera images.
        depth: read the depth images that belong to the camera images.
        labels: "lidar" for all objects that the source lists, "camera" for the objects among them that the agent's cameras see.
    """

    lidar: bool = True
    beams: int = BEAMS[-1]
    cameras: bool = False
    depth: bool = False
    labels: Literal["lidar", "camera"] = "lidar"

    def __post_init__(self) -> None:
        """Check the number of laser lines, and that depth images come with camera images."""
        if self.beams not in BEAMS:
            raise ValueError(f"SensorChoice.beams: expected one of {BEAMS}, got {self.beams}")
        if self.depth and not self.cameras:
            raise ValueError("SensorChoice.depth: depth belongs to images, so cameras must be chosen too")

    @property
    def kind(self) -> str:
        """The sensors in one word: "lidar", "camera" or "lidar+camera"."""
        return "+".join(name for name, chosen in (("lidar", self.lidar), ("camera", self.cameras)) if chosen)

    @staticmethod
    def of(sensors: Collection[Sensor], beams: int = BEAMS[-1]) -> SensorChoice:
        """Make a choice from names of sensors; "depth" includes the camera images."""
        depth = "depth" in sensors
        return SensorChoice(lidar="lidar" in sensors, beams=beams, cameras=depth or "camera" in sensors, depth=depth)


WHOLE_SWEEP = SensorChoice()
"""The agent's own LiDAR cloud, with the labels of all objects around it."""


class SceneSource(Protocol):
    """A source of scenes, such as a folder on disk or the live town. Indices count scenes (ticks) from 0.

    A source must be picklable and deterministic: every agent's actor holds its own copy and reads only its own frames.
    """

    def __len__(self) -> int:
        """Return the number of scenes."""
        ...

    def outline(self, index: int) -> SceneOutline:
        """Return the outline of scene `index`."""
        ...

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """Read the frame of an agent in scene `index`.

        Args:
            index: number of the scene.
            agent_id: the agent.
            choice: the sensor data and labels to read; the source's own choice by default.

        Raises:
            KeyError: the agent is not in the scene.
        """
        ...

    def scene_objects(self, index: int) -> ObjectLabels | None:
        """Return the labels of scene `index` as a whole; None if they are the union of all agents' labels."""
        ...


def recording_of(scene_id: str) -> str:
    """Return the recording of a scene: "2021_08_22_21_41_24" of "2021_08_22_21_41_24/000069"; empty for a name without "/"."""
    return scene_id.rpartition("/")[0]


def load_scene(source: SceneSource, index: int, choice: SensorChoice | None = None) -> Scene:
    """Read scene `index` as a whole: the frames of all agents, with the sensor data of a choice, and all objects."""
    outline = source.outline(index)
    frames = tuple(source.agent_frame(index, agent_id, choice) for agent_id in outline.agent_ids)
    objects = source.scene_objects(index)
    if objects is None:
        objects = ObjectLabels.union([frame.objects for frame in frames])
    return Scene(outline, frames, objects)
