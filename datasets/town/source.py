"""The built-in town as a source of scenes, like the reader of a data set."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np

from heal.box_corners import boxes_to_corners
from heal.datasets.opv2v.metadata import UNREAL_SE3_OPENCV
from heal.datasets.town.agents import TownAgent
from heal.datasets.town.camera_options import AS_THE_PRESET, CameraOptions
from heal.datasets.town.preset_choice import town_preset
from heal.datasets.town.presets import TownPreset
from heal.datasets.town.seeds import Stream, random_stream, require_split_and_seed
from heal.datasets.town.sensors.camera import Picture, RenderInput, render_picture
from heal.datasets.town.sensors.lamps import Lamps, find_lamps
from heal.datasets.town.sensors.lidar import Sweep, cast_sweep
from heal.datasets.town.town import FIRST_ID, Town, TownState
from heal.datasets.town.world.driving import TICK_S
from heal.detection.classes import VEHICLES, Classes, class_number
from heal.detection.label_filters import VISIBILITY_CELL_M, visible_objects
from heal.errors import UserError
from heal.se3 import inverse_SE3, relative_SE3, transform_points
from heal.types import (
    BEAMS,
    AgentFrame,
    CameraView,
    Float64,
    LidarScan,
    ObjectLabels,
    SceneOutline,
    Sensor,
    SensorChoice,
    UInt8,
)

_log = logging.getLogger(__name__)
TICK_NS = round(TICK_S * 1e9)
VISIBILITY_PX = 256  # width and height of a visibility map
LAMPS_WITHIN_M = 90.0  # farther places look dark at night
VISIBLE_FROM_PX = 12  # a camera sees a vehicle from this number of pixels on


class TownSource:
    """Scenes of one town; a `SceneSource`.

    A frame depends on preset, cameras, split, seed and tick alone. The town is built on first use and is not pickled: a copy in
    another process builds its own town.

    Args:
        preset: a name in `PRESETS`, or a preset.
        seed: number of the town within the split.
        ticks: number of scenes.
        split: "train", "validate" or "test".
        sensors: the sensor data that `agent_frame` returns without a choice of the caller's.
        stride: ticks of 0.1 s from one scene to the next.
        cameras: size and smoothing of the images, and the agents that have cameras.
        classes: the classes of the objects that are labelled.
    """

    def __init__(
        self,
        preset: str | TownPreset,
        seed: int,
        ticks: int,
        split: str = "test",
        sensors: frozenset[Sensor] = frozenset({"lidar"}),
        stride: int = 1,
        cameras: CameraOptions = AS_THE_PRESET,
        classes: Classes = VEHICLES,
    ) -> None:
        """Check the arguments; the town is not built yet.

        Raises:
            ValueError: an unknown preset or split, a negative seed, or less than one tick or a stride below 1.
        """
        if ticks < 1 or stride < 1:
            raise UserError(f"a town needs at least one tick and a stride of at least 1, got ticks={ticks}, stride={stride}")
        require_split_and_seed(split, seed)
        self.cameras = cameras.for_preset(town_preset(preset))
        self.preset, self.seed, self.ticks, self.split = self.cameras.applied_to(town_preset(preset)), seed, ticks, split
        self.sensors, self.stride, self.classes = sensors, stride, classes
        self._town: Town | None = None
        self._state: TownState | None = None
        self._sweep: tuple[int, str, Sweep] | None = None
        self._pictures: tuple[int, str, list[Picture]] | None = None

    def __len__(self) -> int:
        """Return the number of scenes."""
        return self.ticks

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to pickle, without the built town: building is cheaper than sending."""
        return {**self.__dict__, "_town": None, "_state": None, "_sweep": None, "_pictures": None}

    @property
    def scenario(self) -> str:
        """The name of the town, and of its scenario on disk."""
        return f"{self.preset.name}_{self.seed:09d}"

    def stamp(self, index: int) -> str:
        """Return the stamp of scene `index`; as in OPV2V, stamps count simulation steps of 50 ms."""
        return f"{2 * index * self.stride:06d}"

    @property
    def town(self) -> Town:
        """The town, built on first use."""
        if self._town is None:
            began_s = time.monotonic()
            _log.info("building the town %s", self.scenario)
            self._town = Town(self.preset, self.split, self.seed, (self.ticks - 1) * self.stride + 1)
            _log.info("built the town in %.0f s", time.monotonic() - began_s)
        return self._town

    def state(self, index: int) -> TownState:
        """Return the town's state in scene `index`; the last state is kept for the other agents of the scene."""
        if not 0 <= index < self.ticks:
            raise IndexError(f"scene {index}: this town has {self.ticks}")
        tick = index * self.stride
        if self._state is None or self._state.tick != tick:
            self._state = self.town.state(tick)
        return self._state

    def outline(self, index: int) -> SceneOutline:
        """Return the outline of scene `index`; the ego is the first vehicle."""
        state = self.state(index)
        agents = self.town.agents
        ids = tuple(agent.agent_id for agent in agents)
        return SceneOutline(f"{self.scenario}/{self.stamp(index)}", state.tick * TICK_NS, ids[0], ids, agent_pose(agents[0], state))

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """Sense scene `index` as an agent; KeyError if the agent is unknown.

        The labels are the objects that the agent's LiDAR hits with any of its lines, however many lines `choice` names. For
        `choice.labels == "camera"` they are the objects among these that the cameras see.
        """
        choice = choice or SensorChoice.of(self.sensors)
        agent, state = self.agent(agent_id), self.state(index)
        pose = agent_pose(agent, state)
        scan = self._scan(index, agent, choice.beams) if choice.lidar else None
        views = self._views(index, agent, choice.depth) if choice.cameras else ()
        objects = self.labels(index, agent_id)
        if choice.labels == "camera":
            objects = visible_objects(objects, self.visibility_map(index, agent_id), pose)
        return AgentFrame(agent_id, agent.kind, state.tick * TICK_NS, pose, pose, scan, views, objects)

    def scene_objects(self, index: int) -> ObjectLabels | None:
        """Return None: the objects of a scene are the union of its agents' labels."""
        return None

    def agent(self, agent_id: str) -> TownAgent:
        """Return the agent with an id; KeyError if the agent is unknown."""
        for agent in self.town.agents:
            if agent.agent_id == agent_id:
                return agent
        raise KeyError(f"no agent {agent_id!r} in this town; there are {[agent.agent_id for agent in self.town.agents]}")

    def sweep(self, index: int, agent_id: str) -> Sweep:
        """Return the agent's LiDAR sweep in scene `index`, with points in the agent's frame; the last sweep is kept."""
        agent, state = self.agent(agent_id), self.state(index)
        if self._sweep is None or self._sweep[:2] != (state.tick, agent_id):
            noise = random_stream(self.split, self.seed, Stream.NOISE, state.tick, self.town.agents.index(agent))
            world_SE3_lidar = agent_pose(agent, state) @ agent.agent_SE3_lidar
            rain = self.town.weather.rain_mm_h
            sweep = cast_sweep(agent.lidar, state.scene, state.mesh, world_SE3_lidar, noise, rain)
            if agent.kind == "roadside":
                sweep.points[:, :3] = transform_points(agent.agent_SE3_lidar, sweep.points[:, :3].astype(np.float64))
            self._sweep = (state.tick, agent_id, sweep)
        return self._sweep[2]

    def pictures(self, index: int, agent_id: str) -> list[Picture]:
        """Return the pictures of the agent's cameras in scene `index`; the last pictures are kept."""
        state = self.state(index)
        if self._pictures is None or self._pictures[:2] != (state.tick, agent_id):
            agent = self.agent(agent_id)
            inputs = RenderInput(
                self.town.map, self.town.blocks, self.town.weather, state.mesh, state.scene, self._lamps(agent, state)
            )
            size, focal = self.preset.image_px, self.preset.focal_px_of(agent.kind)
            drops = random_stream(self.split, self.seed, Stream.DROPS, state.tick, self.town.agents.index(agent))
            poses = self.camera_poses(index, agent_id)
            pictures = [render_picture(inputs, pose, size, focal, self.cameras.smooth, drops) for pose in poses]
            self._pictures = (state.tick, agent_id, pictures)
        return self._pictures[2]

    def _lamps(self, agent: TownAgent, state: TownState) -> tuple[Lamps, ...]:
        """Return the lamps that burn around an agent; none by day."""
        if not self.town.weather.lamps_lit:
            return ()
        eye = agent_pose(agent, state)[:3, 3].astype(np.float32)
        return tuple(lamps.near(eye, LAMPS_WITHIN_M) for lamps in find_lamps(state.mesh, state.scene.standing_count))

    def camera_poses(self, index: int, agent_id: str) -> list[Float64]:
        """Return the world poses (4, 4) of the agent's cameras, x forward, y right, z up; none for an agent without cameras."""
        agent = self.agent(agent_id)
        if not self.cameras.includes(agent, self.town.agents[0].agent_id):
            return []
        carrier = np.eye(4) if agent.vehicle is None else self.state(index).world_SE3_vehicles[agent.vehicle]
        return [carrier @ pose for pose in agent.carrier_SE3_cameras]

    def _scan(self, index: int, agent: TownAgent, beams: int) -> LidarScan:
        """Return the agent's scan: all lines of the LiDAR for the largest of BEAMS, else at most `beams` lines."""
        sweep, own = self.sweep(index, agent.agent_id), agent.lidar.beams
        lines = own if beams == BEAMS[-1] else min(beams, own)
        return LidarScan(sweep.thinned(own, lines), lines)

    def _views(self, index: int, agent: TownAgent, with_depth: bool) -> tuple[CameraView, ...]:
        pose = agent_pose(agent, self.state(index))
        views, intrinsic = [], self.preset.intrinsic_of(agent.kind)
        shown = zip(self.pictures(index, agent.agent_id), self.camera_poses(index, agent.agent_id), strict=True)
        for number, (picture, world_SE3_camera) in enumerate(shown):
            agent_SE3_camera = relative_SE3(pose, world_SE3_camera) @ UNREAL_SE3_OPENCV
            depth = picture.depth_m if with_depth else None
            views.append(CameraView(f"camera{number}", picture.image, intrinsic, agent_SE3_camera, depth))
        return tuple(views)

    def visibility_map(self, index: int, agent_id: str) -> UInt8:
        """Draw the vehicles that the cameras see: (256, 256) from above, 255 on vehicles. An agent without cameras sees none.

        The agent is in the middle, its x axis points up, and a pixel is 0.39 m wide.
        """
        from PIL import Image, ImageDraw

        pixels = np.concatenate([np.empty(0, np.int64), *(picture.owner.ravel() for picture in self.pictures(index, agent_id))])
        ids, counts = np.unique(pixels[pixels >= FIRST_ID], return_counts=True)
        carrier = self.agent(agent_id).vehicle
        seen = ids[(counts >= VISIBLE_FROM_PX) & (ids != (None if carrier is None else FIRST_ID + carrier))]
        pose = agent_pose(self.agent(agent_id), self.state(index))
        canvas = Image.new("L", (VISIBILITY_PX, VISIBILITY_PX))
        for corners in transform_points(inverse_SE3(pose), self.corners(index, seen)):
            middle = VISIBILITY_PX / 2 - 0.5
            outline = [(middle + y / VISIBILITY_CELL_M, middle - x / VISIBILITY_CELL_M) for x, y in corners[:4, :2]]
            ImageDraw.Draw(canvas).polygon(outline, fill=255)
        return np.asarray(canvas, np.uint8)

    def hits(self, index: int, agent_id: str) -> dict[int, int]:
        """Count the agent's LiDAR points on every vehicle and person that its LiDAR hits, except the agent's own vehicle."""
        counts = self.sweep(index, agent_id).hits()
        carrier = self.agent(agent_id).vehicle
        return {number: count for number, count in counts.items() if carrier is None or number != FIRST_ID + carrier}

    def labels(self, index: int, agent_id: str) -> ObjectLabels:
        """Return the objects of the wanted classes with at least one LiDAR point of the agent; other agents are labelled too."""
        hit = sorted(self.hits(index, agent_id))
        found = {number: class_number(self.type_of(number), self.classes) for number in hit}
        kept = {number: one for number, one in found.items() if one is not None}
        ids = np.array(list(kept), np.int64)
        return ObjectLabels(ids, self.corners(index, ids), np.array(list(kept.values()), np.int64))

    def type_of(self, number: int) -> str:
        """Return the type of the object with an id, one of `heal.detection.classes.OBJECT_TYPES`."""
        return self.town.specs[number - FIRST_ID].kind.object_type

    def corners(self, index: int, ids: Any) -> Float64:
        """Return the world corners (N, 8, 3) of the objects `ids` in scene `index`."""
        state = self.state(index)
        corners = [box_corners(self.town.specs[n - FIRST_ID].size_m, state.world_SE3_vehicles[n - FIRST_ID]) for n in ids]
        return np.array(corners).reshape(-1, 8, 3)


def agent_pose(agent: TownAgent, state: TownState) -> Float64:
    """Return `world_SE3_agent` in a state of the town."""
    if agent.vehicle is None:
        return agent.carrier_SE3_agent
    pose: Float64 = state.world_SE3_vehicles[agent.vehicle] @ agent.carrier_SE3_agent
    return pose


def box_corners(size_m: Float64, world_SE3_vehicle: Float64) -> Float64:
    """Return the world corners (8, 3) of a vehicle's box.

    Args:
        size_m: (3,) length, width, height.
        world_SE3_vehicle: (4, 4) pose of the vehicle, whose origin is on the ground.
    """
    length, width, height = size_m
    box = np.array([[0, 0, height / 2, height, width, length, 0]])
    return transform_points(world_SE3_vehicle, boxes_to_corners(box)[0])
