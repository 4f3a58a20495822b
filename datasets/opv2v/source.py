"""OPV2V, and data sets in its layout (V2XSet, OPV2V-H, the built-in town), as a source of scenes.

    ROOT/train|validate|test/<scenario>/<agent>/<stamp>.yaml, .pcd, _camera0.png .. _camera3.png
    ROOT_Hetero/<the same>/<stamp>_16.pcd, _32.pcd, _depth0.png .. _depth3.png
    ROOT/additional/<the same>/<stamp>_bev_visibility.png   (or beside the metadata)

Opening lists folders and reads no file. An agent whose number is negative is a roadside unit (V2XSet).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from heal.datasets.dataset import DatasetError, DatasetSummary, Origin, UnknownAgentError
from heal.datasets.files import LIDAR_ONLY, read_depth, read_grey, read_image
from heal.datasets.opv2v.index import VISIBILITY_SUFFIX, Scenario, list_scenarios, with_ego
from heal.datasets.opv2v.metadata import CameraCalibration, FrameMetadata, metadata_path, read_metadata
from heal.datasets.pcd import read_lidar
from heal.detection.ground_truth import objects_within, visible_objects
from heal.types import BEAMS, AgentFrame, AgentKind, CameraView, LidarScan, ObjectLabels, SceneOutline, Sensor, SensorChoice

SPLIT_ALIASES = {"val": "validate", "validation": "validate"}
FULL_BEAMS = BEAMS[-1]
# In a data set without visibility maps, such as V2XSet, an agent's cameras see the objects within this range, in the agent's frame.
SIGHT_RANGE_M = (-45.0, -45.0, -3.0, 45.0, 45.0, 1.0)
STAMP_NS = 50_000_000  # stamps count simulation steps of 50 ms; every second one is recorded, hence 10 Hz


@dataclass(frozen=True)
class _FrameLocation:
    """Scenario, agent and stamp of one agent's frame; the names of its files follow from them."""

    scenario: Scenario
    agent_id: str
    stamp: str


class Opv2vSource:
    """Scenes of one split of a data set in OPV2V's layout.

    Attributes:
        root: the folder that holds the splits.
        split: the name of the split's folder.
        choice: the sensor data that `agent_frame` reads without a choice of the caller's.
        hetero_root: the folder with depth images and thinned clouds, which may be missing.
        scenarios: the scenarios, each with its ego first.
        summary: the scenes that were found, and everything that was skipped.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        sensors: Collection[Sensor] = LIDAR_ONLY,
        *,
        hetero_root: Path | None = None,
        beams: int = FULL_BEAMS,
        ego_id: str | None = None,
        max_agents: int = 5,
    ) -> None:
        """Open a split: list its folders.

        Args:
            root: the folder that holds train, validate and test.
            split: "train", "validate" (or "val") or "test".
            sensors: the sensor data that `agent_frame` reads without a choice of the caller's; depth includes the images.
            hetero_root: the folder with depth images and thinned clouds; by default ROOT_Hetero, or OPV2V_Hetero beside `root`.
            beams: laser lines of the clouds that `agent_frame` reads without a choice: 64, 32 or 16.
            ego_id: the ego. By default the first agent in the order of the folder names as strings, vehicles before roadside units.
            max_agents: the largest number of agents, the ego included.

        Raises:
            DatasetError: the split is missing or has no frame, the ego is unknown, or `hetero_root` is needed and missing.
        """
        self.root = root
        self.split = SPLIT_ALIASES.get(split, split)
        self.choice = SensorChoice.of(sensors, beams)
        self.hetero_root = hetero_root or _default_hetero_root(root)
        if self.choice.depth or (self.choice.lidar and beams != FULL_BEAMS):
            self._require_hetero_root()
        found, skipped = list_scenarios(root / self.split)
        self._has_maps = (root / "additional" / self.split).is_dir() or any(scenario.has_maps for scenario in found)
        self.scenarios, left_out = with_ego(found, ego_id, max_agents)
        self._scenes = [(scenario, stamp) for scenario in self.scenarios for stamp in scenario.ego_stamps]
        if not self._scenes:
            raise DatasetError(root / self.split, _no_scene_cause(found, ego_id))
        agents = sum(len(scenario.agent_ids) for scenario in self.scenarios)
        parts = tuple(skipped + left_out)
        self.summary = DatasetSummary("OPV2V", root, self.split, len(self.scenarios), len(self._scenes), agents, parts)

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self._scenes)

    def outline(self, index: int) -> SceneOutline:
        """Return the outline of scene `index`, the ego first."""
        scenario, stamp = self._scenes[index]
        ego = self._metadata(_FrameLocation(scenario, scenario.ego_id, stamp))
        return SceneOutline(
            scene_id=f"{scenario.name}/{stamp}",
            timestamp_ns=int(stamp) * STAMP_NS,
            ego_id=scenario.ego_id,
            agent_ids=scenario.agents_at(stamp),
            world_SE3_ego=ego.world_SE3_lidar,
        )

    @property
    def scenario_agents(self) -> dict[str, tuple[str, ...]]:
        """The ids of all agents of every scenario, agents beyond the limit included."""
        return {scenario.name: (*scenario.agent_ids, *scenario.unused) for scenario in self.scenarios}

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """Read an agent's frame.

        Raises:
            UnknownAgentError: the agent is not in the scene.
            DatasetError: a file cannot be used.
        """
        choice = choice or self.choice
        location = self._location(index, agent_id)
        metadata = self._metadata(location)
        kind: AgentKind = "roadside" if agent_id.startswith("-") or metadata.roadside else "vehicle"
        return AgentFrame(
            agent_id=agent_id,
            kind=kind,
            timestamp_ns=int(location.stamp) * STAMP_NS,
            world_SE3_agent=metadata.world_SE3_lidar,
            world_SE3_agent_measured=metadata.world_SE3_lidar,
            lidar=self._lidar(location, choice.beams) if choice.lidar else None,
            cameras=tuple(self._camera(location, camera, choice.depth) for camera in metadata.cameras) if choice.cameras else (),
            objects=metadata.objects if choice.labels == "lidar" else self._visible_labels(location, metadata),
        )

    def scene_objects(self, index: int) -> ObjectLabels:
        """Join the labels of all agents of scene `index` by id; only the metadata is read."""
        return ObjectLabels.union([self._metadata(location).objects for location in self._locations(index)])

    def frame_origin(self, index: int, agent_id: str, choice: SensorChoice) -> Origin:
        """Return the files behind `agent_frame`, without images and depth; UnknownAgentError if the agent is not in the scene."""
        location = self._location(index, agent_id)
        files = [metadata_path(self._stem(location))]
        if choice.lidar:
            files.append(self._cloud_path(location, choice.beams))
        if choice.labels == "camera" and self._has_maps:
            files.append(self._map_path(location))
        return Origin(agent_id, tuple(files))

    def scene_origin(self, index: int) -> Origin:
        """Return the files behind `outline` and `scene_objects`."""
        locations = self._locations(index)
        files = tuple(metadata_path(self._stem(location)) for location in locations)
        return Origin(" ".join(location.agent_id for location in locations), files)

    def _location(self, index: int, agent_id: str) -> _FrameLocation:
        scenario, stamp = self._scenes[index]
        if agent_id not in scenario.agents_at(stamp):
            known = ", ".join(scenario.agents_at(stamp))
            raise UnknownAgentError(self.root / self.split / scenario.name, f"no agent {agent_id!r} at {stamp}, there are {known}")
        return _FrameLocation(scenario, agent_id, stamp)

    def _locations(self, index: int) -> list[_FrameLocation]:
        scenario, stamp = self._scenes[index]
        return [_FrameLocation(scenario, agent_id, stamp) for agent_id in scenario.agents_at(stamp)]

    def _stem(self, location: _FrameLocation) -> Path:
        return self._folder(self.root, location) / location.stamp

    def _metadata(self, location: _FrameLocation) -> FrameMetadata:
        return read_metadata(self._stem(location))

    def _lidar(self, location: _FrameLocation, beams: int) -> LidarScan:
        return LidarScan(read_lidar(self._cloud_path(location, beams)), beams)

    def _cloud_path(self, location: _FrameLocation, beams: int) -> Path:
        root, suffix = (self.root, "") if beams == FULL_BEAMS else (self._require_hetero_root(), f"_{beams}")
        return self._folder(root, location) / f"{location.stamp}{suffix}.pcd"

    def _camera(self, location: _FrameLocation, calibration: CameraCalibration, with_depth: bool) -> CameraView:
        depth = None
        if with_depth:
            name = calibration.name.replace("camera", "depth")
            depth = read_depth(self._folder(self._require_hetero_root(), location) / f"{location.stamp}_{name}.png")
        image = read_image(self._folder(self.root, location) / f"{location.stamp}_{calibration.name}.png")
        return CameraView(calibration.name, image, calibration.intrinsic, calibration.agent_SE3_camera, depth)

    def _visible_labels(self, location: _FrameLocation, metadata: FrameMetadata) -> ObjectLabels:
        """Return the labelled objects that the agent's visibility map marks; in a data set without maps, the objects nearby."""
        if not self._has_maps:
            return objects_within(metadata.objects, metadata.world_SE3_lidar, SIGHT_RANGE_M)
        return visible_objects(metadata.objects, read_grey(self._map_path(location)), metadata.world_SE3_lidar)

    def _map_path(self, location: _FrameLocation) -> Path:
        path = self._folder(self.root / "additional", location) / f"{location.stamp}{VISIBILITY_SUFFIX}"
        return path if path.exists() else self._folder(self.root, location) / path.name

    def _folder(self, root: Path, location: _FrameLocation) -> Path:
        return root / self.split / location.scenario.name / location.agent_id

    def _require_hetero_root(self) -> Path:
        """Return the folder with depth images and thinned clouds; DatasetError if it is missing."""
        if not self.hetero_root.is_dir():
            raise DatasetError(self.hetero_root, "no such folder; depth and clouds of 16 or 32 beams lie there: give hetero_root")
        return self.hetero_root


def _default_hetero_root(root: Path) -> Path:
    beside = root.with_name(f"{root.name}_Hetero")
    return beside if beside.is_dir() else root.with_name("OPV2V_Hetero")


def _no_scene_cause(found: list[Scenario], ego_id: str | None) -> str:
    """Say why a split has no scene: no frame at all, or no scenario with the ego."""
    if ego_id is None or not found:
        return "no frame here; expected <scenario>/<agent>/<stamp>.yaml"
    known = sorted({agent_id for scenario in found for agent_id in scenario.agent_ids})
    return f"unknown agent {ego_id!r} wanted as ego; there are {', '.join(known[:20])}"
