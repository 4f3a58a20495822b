"""Facts of one scene that later tests of a whole recording need: poses, times, labels, images; no cloud and no pixel is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from heal.datasets.doctor.finding import Finding
from heal.types import Float64, Int64, recording_of


@dataclass(frozen=True)
class Installed:
    """The sensor data that a split has at all.

    Attributes:
        lidar: the agents' own clouds.
        thinned: laser lines of the thinned clouds.
        cameras: camera images.
        depth: depth images.
    """

    lidar: bool = False
    thinned: tuple[int, ...] = ()
    cameras: bool = False
    depth: bool = False

    @property
    def names(self) -> list[str]:
        """The sensors for people, such as "clouds of 32 lines"."""
        clouds = [f"clouds of {lines} lines" for lines in self.thinned]
        found = (("clouds", self.lidar), ("images", self.cameras), ("depth images", self.depth))
        return [name for name, there in found if there] + clouds


@dataclass(frozen=True)
class ImageFacts:
    """The form of one camera image.

    Attributes:
        camera: the camera's name.
        path: the file.
        size_px: width and height.
        form: channels and bits, such as "RGB of 8 bits".
    """

    camera: str
    path: Path
    size_px: tuple[int, int]
    form: str


@dataclass(frozen=True)
class CloudFacts:
    """A cloud in numbers.

    Attributes:
        path: the file.
        points: number of points.
        distance_m: the median distance of the points from the sensor.
        intensity: the largest intensity.
    """

    path: Path
    points: int
    distance_m: float
    intensity: float


@dataclass(frozen=True)
class Hits:
    """How many boxes hold points of a cloud, or lie in an image.

    Attributes:
        boxes: number of boxes that should.
        hit: number of boxes that do.
    """

    boxes: int = 0
    hit: int = 0

    def __add__(self, other: Hits) -> Hits:
        """Join two counts."""
        return Hits(self.boxes + other.boxes, self.hit + other.hit)

    @property
    def share(self) -> float:
        """The share of boxes that are hit; 1 without any box."""
        return self.hit / self.boxes if self.boxes else 1.0


@dataclass(frozen=True)
class AgentFacts:
    """One agent in one scene.

    Attributes:
        agent_id: the agent.
        timestamp_ns: the time of its measurements.
        world_SE3_agent: (4, 4) the pose.
        pose_file: the file that the pose is read from.
        label_file: the file that the labels are read from.
        ids: (N,) ids of its labels.
        centres: (N, 3) their centres in the world, in metres.
        yaws: (N,) their headings in the world, in radians.
        cloud: its cloud; None if it has none.
        images: its images.
        seen: how many of its boxes lie in its images, of those that its cameras see; counted in some scenes.
        view_share: the share of all directions that its cameras look in.
    """

    agent_id: str
    timestamp_ns: int
    world_SE3_agent: Float64
    pose_file: Path
    label_file: Path
    ids: Int64
    centres: Float64
    yaws: Float64
    cloud: CloudFacts | None = None
    images: tuple[ImageFacts, ...] = ()
    seen: Hits = Hits()
    view_share: float = 0.0


@dataclass(frozen=True)
class SceneFacts:
    """One scene.

    Attributes:
        scene_id: the scene, such as "2021_08_22_21_41_24/000069".
        agents: the agents whose pose and labels can be read.
        hits: (agent of the cloud, agent of the pose, agent of the labels) -> their boxes with points; counted in some scenes.
    """

    scene_id: str
    agents: tuple[AgentFacts, ...] = ()
    hits: Mapping[tuple[str, str, str], Hits] = field(default_factory=dict)

    @property
    def recording(self) -> str:
        """The scenario or batch that the scene belongs to."""
        return recording_of(self.scene_id)


@dataclass(frozen=True)
class SceneReport:
    """What reading one scene has shown.

    Attributes:
        facts: for the tests of its recording.
        findings: about its files and labels.
    """

    facts: SceneFacts
    findings: tuple[Finding, ...]
