"""Find out of a bag which agents it has, and which topics and frames are theirs: by the transforms, not by names.

An agent is a body with a point cloud: everything that static transforms join, below the world. A camera belongs to the body that
carries its frame.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from heal.datasets.intensity import common_top
from heal.datasets.notation import as_mapping
from heal.datasets.opv2v.index import agent_order
from heal.datasets.ros.clouds import intensity_of
from heal.datasets.ros.messages import CAMERA_INFO, CLOUD, COMPRESSED, DETECTIONS, IMAGE, TRANSFORMS, Messages
from heal.datasets.ros.names import RECORDING, WORLD, agent_of, foreign_agent, is_static
from heal.datasets.ros.transforms import TransformTree, frame_name
from heal.detection.classes import VEHICLES, Classes
from heal.types import AgentKind

if TYPE_CHECKING:
    from rosbags.interfaces import Connection
    from rosbags.rosbag2 import Reader

_WORLDS = (WORLD, "world", "odom")
_SAMPLED_TRANSFORMS = 500  # enough to see every frame


@dataclass(frozen=True)
class BagOptions:
    """How a bag is read.

    Attributes:
        ego_id: the ego; None for the first agent in the order of OPV2V: vehicles before roadside units, by name.
        world_frame: the frame of the world; None for map, world or odom, the first that there is.
        clouds: topics of the clouds to read; empty for all. Each agent needs one.
        tolerance_ns: the greatest distance in time of what makes up a scene from the ego's cloud.
        intensity_scale: the value that stands for the intensity 1; None to judge it by some clouds.
        classes: the classes of the objects that are wanted.
    """

    ego_id: str | None = None
    world_frame: str | None = None
    clouds: tuple[str, ...] = ()
    tolerance_ns: int = 50_000_000
    intensity_scale: float | None = None
    classes: Classes = VEHICLES


@dataclass(frozen=True)
class CameraTopics:
    """The topics of a camera.

    Attributes:
        name: the camera's name.
        frame: its optical frame: x right, y down, z forward.
        info: the first CameraInfo.
        image: the topic of its images.
        depth: the topic of its depth images, or None.
    """

    name: str
    frame: str
    info: Any
    image: str
    depth: str | None


@dataclass(frozen=True)
class AgentTopics:
    """The topics of an agent.

    Attributes:
        agent_id: the id.
        kind: a vehicle or a roadside unit.
        body: the frame of its body.
        cloud: the topic of its clouds.
        cloud_frame: their frame, which is the agent's frame.
        cameras: in the order of their names.
        objects: the topic of its labels, or None.
    """

    agent_id: str
    kind: AgentKind
    body: str
    cloud: str
    cloud_frame: str
    cameras: tuple[CameraTopics, ...]
    objects: str | None


@dataclass(frozen=True)
class BagLayout:
    """The content of a bag.

    Attributes:
        agents: the ego first.
        world: the frame of the world.
        objects: the topic of labels that are no agent's, but the scene's; or None.
        mirrored: whether the bag holds the mirror image of a left-handed world.
        intensity_top: the intensity that stands for 1; None if it is not known.
    """

    agents: tuple[AgentTopics, ...]
    world: str
    objects: str | None
    mirrored: bool
    intensity_top: float | None

    @property
    def labelled(self) -> bool:
        """Whether the bag has labels."""
        return self.objects is not None or any(agent.objects for agent in self.agents)

    @property
    def topics(self) -> set[str]:
        """The topics of sensor data and labels."""
        cameras = [camera for agent in self.agents for camera in agent.cameras]
        named = [self.objects, *(agent.objects for agent in self.agents), *(camera.depth for camera in cameras)]
        return {agent.cloud for agent in self.agents} | {camera.image for camera in cameras} | {name for name in named if name}


class LayoutFinder:
    """Looks through an open bag."""

    def __init__(self, reader: Reader, messages: Messages, options: BagOptions) -> None:
        """Take an open bag."""
        self._reader, self._messages, self._options = reader, messages, options
        self._connections: dict[str, list[Connection]] = defaultdict(list)
        self._topics: dict[str, list[str]] = defaultdict(list)  # by type
        for connection in reader.connections:
            self._connections[connection.topic].append(connection)
            if connection.topic not in self._topics[connection.msgtype]:
                self._topics[connection.msgtype].append(connection.topic)
        self.tree = TransformTree()

    def find(self) -> BagLayout:
        """Return the layout; ValueError if there is no agent, or if it is not clear what is an agent's."""
        self._read_transforms()
        world, recording = self._world(), self._recording()
        clouds = {topic: self._first(topic) for topic in self._cloud_topics()}
        frames = {topic: frame_name(cloud.header.frame_id) for topic, cloud in clouds.items() if cloud is not None}
        if not frames:
            raise ValueError(f"expected clouds, but {', '.join(clouds)} holds no message")
        bodies = {topic: self.tree.body_of(frame, world) for topic, frame in frames.items()}
        objects = self._objects(bodies)
        agents: dict[str, AgentTopics] = {}
        for topic, body in bodies.items():
            agent_id, kind = agent_of(body) or foreign_agent(body, len(bodies) == 1)
            if agent_id in agents:
                raise ValueError(
                    f"agent {agent_id}: expected one topic of clouds, got {agents[agent_id].cloud} and {topic}; name the one "
                    "to read with --cloud"
                )
            cameras = tuple(self._cameras(body, world))
            agents[agent_id] = AgentTopics(agent_id, kind, body, topic, frames[topic], cameras, objects.get(topic))
        top = self._options.intensity_scale or recording.get("intensity_scale") or self._judged_top([*clouds.values()])
        return BagLayout(self._ordered(agents), world, objects.get(""), bool(recording.get("mirrored")), top)

    def _ordered(self, agents: Mapping[str, AgentTopics]) -> tuple[AgentTopics, ...]:
        """Return the agents, the ego first."""
        order, ego_id = agent_order(list(agents)), self._options.ego_id
        if ego_id is not None and ego_id not in agents:
            raise ValueError(f"unknown agent {ego_id!r} wanted as ego; there are {', '.join(order)}")
        first = [ego_id] if ego_id else []
        return tuple(agents[agent_id] for agent_id in (*first, *(agent_id for agent_id in order if agent_id not in first)))

    def _read_transforms(self) -> None:
        """Read all static transforms, and as many others as show every frame."""
        topics = self._topics[TRANSFORMS]
        static = self._messages_of(*filter(is_static, topics))
        moving = islice(self._messages_of(*(topic for topic in topics if not is_static(topic))), _SAMPLED_TRANSFORMS)
        for connection, log_ns, raw in (*static, *moving):
            message = self._messages.decode(raw, connection.msgtype)
            self.tree.add(message, static=is_static(connection.topic), log_ns=log_ns)

    def _world(self) -> str:
        """Return the frame of the world."""
        frames, wanted = self.tree.frames(), self._options.world_frame
        world = next((name for name in ([wanted] if wanted else _WORLDS) if name in frames), None)
        if world is None:
            there = ", ".join(sorted(frames)[:20]) or "none"
            named = wanted or " or ".join(_WORLDS)
            raise ValueError(f"no transform has the frame {named}, but there are {there}; name the world with --world-frame")
        return world

    def _recording(self) -> Mapping[Any, Any]:
        """Return what `heal convert` has noted in the bag; nothing in a bag of another program."""
        message = self._first(RECORDING)
        return {} if message is None else as_mapping(RECORDING, json.loads(message.data))

    def _cloud_topics(self) -> list[str]:
        there, wanted = self._topics[CLOUD], self._options.clouds
        missing = [topic for topic in wanted if topic not in there]
        if missing or not there:
            names = ", ".join(there) or f"none; its topics are {', '.join(sorted(self._connections)[:20]) or 'none'}"
            raise ValueError(f"expected clouds ({CLOUD}){' on ' + ', '.join(missing) if missing else ''}, there are {names}")
        return list(wanted or there)

    def _cameras(self, body: str, world: str) -> Iterator[CameraTopics]:
        """Yield the calibrated cameras of a body that have images."""
        for topic in sorted(self._topics[CAMERA_INFO]):
            info, prefix = self._first(topic), topic.rpartition("/")[0]
            if info is None or self.tree.body_of(frame := frame_name(info.header.frame_id), world) != body:
                continue
            below = [name for kind in (IMAGE, COMPRESSED) for name in self._topics[kind] if name.startswith(f"{prefix}/")]
            images = [name for name in below if "depth" not in name.lower()]
            depths = [name for name in below if "depth" in name.lower() and name in self._topics[IMAGE]]
            if images:
                yield CameraTopics(prefix.rpartition("/")[2], frame, info, images[0], depths[0] if depths else None)

    def _objects(self, bodies: Mapping[str, str]) -> dict[str, str]:
        """Return the topic of labels of each topic of clouds in the same namespace, and of the scene as ""."""
        found: dict[str, str] = {}
        for topic in self._topics[DETECTIONS]:
            space = topic.split("/")[1] if topic.count("/") > 1 else None
            own = [cloud for cloud in bodies if cloud.count("/") > 1 and cloud.split("/")[1] == space]
            key = own[0] if len(own) == 1 else ""
            if key in found:
                raise ValueError(
                    f"expected labels on one topic for each agent, got {found[key]} and {topic}; leave one of them out"
                )
            found[key] = topic
        return found

    def _judged_top(self, clouds: list[Any]) -> float | None:
        """Return the scale of the intensities, as the first clouds show it; None if no common scale holds them."""
        samples = [values for cloud in clouds if cloud is not None and (values := intensity_of(cloud)).size]
        if not samples:
            return None
        values = np.concatenate(samples)
        return common_top(values[np.isfinite(values)], all(sample.dtype.kind != "f" for sample in samples))

    def _first(self, topic: str) -> Any:
        """Return the first message of a topic; None if there is none."""
        for connection, _, raw in self._messages_of(topic):
            return self._messages.decode(raw, connection.msgtype)
        return None

    def _messages_of(self, *topics: str) -> Iterator[tuple[Connection, int, bytes]]:
        connections = [connection for topic in topics for connection in self._connections.get(topic, ())]
        return self._reader.messages(connections) if connections else iter(())
