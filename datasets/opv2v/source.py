"""OPV2V, and what is written in its layout (V2XSet, OPV2V-H, the built-in town): folders to scenes.

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
from heal.datasets.opv2v.index import VISIBILITY_SUFFIX, Scenario, read_split, with_ego
from heal.datasets.opv2v.metadata import CameraCalibration, FrameMetadata, metadata_path, read_metadata
from heal.datasets.pcd import read_lidar
from heal.detection.ground_truth import objects_within, visible_objects
from heal.types import BEAMS, AgentFrame, AgentKind, CameraView, LidarScan, ObjectLabels, SceneOutline, Sensor, SensorChoice

SPLITS = {"val": "validate", "validation": "validate"}
FULL_BEAMS = BEAMS[-1]
# What counts as seen by an agent's cameras in a data set without visibility maps, in the agent's frame; V2XSet is used so.
SIGHT_RANGE_M = (-45.0, -45.0, -3.0, 45.0, 45.0, 1.0)
STAMP_NS = 50_000_000  # stamps count simulation steps of 50 ms; every second one is recorded, hence 10 Hz


@dataclass(frozen=True)
class _Place:
    """Where one agent's frame lies."""

    scenario: Scenario
    agent_id: str
    stamp: str


class Opv2vSource:
    """Scenes of one split.

    Attributes:
        summary: what was found and what was skipped.
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
        """List what is there.

        Args:
            root: the folder that holds train, validate and test.
            split: "train", "validate" (or "val") or "test".
            sensors: what to read where `agent_frame` is not given a choice. Depth comes with the images it belongs to.
            hetero_root: the folder with depth and thinned clouds; by default ROOT_Hetero, or OPV2V_Hetero beside `root`.
            beams: which cloud to read, 64, 32 or 16, likewise.
            ego_id: the ego. By default the first agent in the order of the folder names as strings, vehicles before roadside units.
            max_agents: use the ego and at most so many agents in all.

        Raises:
            DatasetError: no such split, nothing in it, no such agent, or depth or a thinned cloud wanted without `hetero_root`.
        """
        self.root = root
        self.split = SPLITS.get(split, split)
        self.choice = SensorChoice.of(sensors, beams)
        self.hetero_root = hetero_root or _default_hetero_root(root)
        if self.choice.depth or (self.choice.lidar and beams != FULL_BEAMS):
            self._hetero_tree()
        found, skipped = read_split(root / self.split)
        self._has_maps = (root / "additional" / self.split).is_dir() or any(scenario.has_maps for scenario in found)
        self.scenarios, unknown = with_ego(found, ego_id, max_agents)
        self._scenes = [(scenario, stamp) for scenario in self.scenarios for stamp in scenario.ego_stamps]
        if not self._scenes:
            raise DatasetError(root / self.split, _nothing_here(found, ego_id))
        agents = sum(len(scenario.agent_ids) for scenario in self.scenarios)
        notes = tuple(skipped + unknown)
        self.summary = DatasetSummary("OPV2V", root, self.split, len(self.scenarios), len(self._scenes), agents, notes)

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self._scenes)

    def outline(self, index: int) -> SceneOutline:
        """Who takes part; the ego comes first."""
        scenario, stamp = self._scenes[index]
        ego = self._metadata(_Place(scenario, scenario.ego_id, stamp))
        return SceneOutline(
            scene_id=f"{scenario.name}/{stamp}",
            timestamp_ns=int(stamp) * STAMP_NS,
            ego_id=scenario.ego_id,
            agent_ids=scenario.agents_at(stamp),
            world_SE3_ego=ego.world_SE3_lidar,
        )

    @property
    def scenario_agents(self) -> dict[str, tuple[str, ...]]:
        """All agents of every scenario, those beyond the limit too."""
        return {scenario.name: (*scenario.agent_ids, *scenario.unused) for scenario in self.scenarios}

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """What an agent senses; UnknownAgentError if it takes no part, DatasetError for an unusable file."""
        choice = choice or self.choice
        place = self._place(index, agent_id)
        metadata = self._metadata(place)
        kind: AgentKind = "roadside" if agent_id.startswith("-") or metadata.roadside else "vehicle"
        return AgentFrame(
            agent_id=agent_id,
            kind=kind,
            timestamp_ns=int(place.stamp) * STAMP_NS,
            world_SE3_agent=metadata.world_SE3_lidar,
            world_SE3_agent_measured=metadata.world_SE3_lidar,
            lidar=self._lidar(place, choice.beams) if choice.lidar else None,
            cameras=tuple(self._camera(place, camera, choice.depth) for camera in metadata.cameras) if choice.cameras else (),
            objects=metadata.objects if choice.labels == "lidar" else self._seen(place, metadata),
        )

    def scene_objects(self, index: int) -> ObjectLabels:
        """The union of what the agents of the scene have labelled, by id; reads their metadata alone."""
        return ObjectLabels.union([self._metadata(place).objects for place in self._places(index)])

    def frame_origin(self, index: int, agent_id: str, choice: SensorChoice) -> Origin:
        """What `agent_frame` depends on, images and depth left aside; UnknownAgentError if the agent takes no part."""
        place = self._place(index, agent_id)
        files = [metadata_path(self._stem(place))]
        if choice.lidar:
            files.append(self._cloud_path(place, choice.beams))
        if choice.labels == "camera" and self._has_maps:
            files.append(self._map_path(place))
        return Origin(agent_id, tuple(files))

    def scene_origin(self, index: int) -> Origin:
        """What `outline` and `scene_objects` depend on."""
        places = self._places(index)
        return Origin(" ".join(place.agent_id for place in places), tuple(metadata_path(self._stem(place)) for place in places))

    def _place(self, index: int, agent_id: str) -> _Place:
        scenario, stamp = self._scenes[index]
        if agent_id not in scenario.agents_at(stamp):
            there = ", ".join(scenario.agents_at(stamp))
            raise UnknownAgentError(self.root / self.split / scenario.name, f"no agent {agent_id!r} at {stamp}, there are {there}")
        return _Place(scenario, agent_id, stamp)

    def _places(self, index: int) -> list[_Place]:
        scenario, stamp = self._scenes[index]
        return [_Place(scenario, agent_id, stamp) for agent_id in scenario.agents_at(stamp)]

    def _stem(self, place: _Place) -> Path:
        return self._folder(self.root, place) / place.stamp

    def _metadata(self, place: _Place) -> FrameMetadata:
        return read_metadata(self._stem(place))

    def _lidar(self, place: _Place, beams: int) -> LidarScan:
        return LidarScan(read_lidar(self._cloud_path(place, beams)), beams)

    def _cloud_path(self, place: _Place, beams: int) -> Path:
        root, suffix = (self.root, "") if beams == FULL_BEAMS else (self._hetero_tree(), f"_{beams}")
        return self._folder(root, place) / f"{place.stamp}{suffix}.pcd"

    def _camera(self, place: _Place, calibration: CameraCalibration, with_depth: bool) -> CameraView:
        depth = None
        if with_depth:
            name = calibration.name.replace("camera", "depth")
            depth = read_depth(self._folder(self._hetero_tree(), place) / f"{place.stamp}_{name}.png")
        image = read_image(self._folder(self.root, place) / f"{place.stamp}_{calibration.name}.png")
        return CameraView(calibration.name, image, calibration.intrinsic, calibration.agent_SE3_camera, depth)

    def _seen(self, place: _Place, metadata: FrameMetadata) -> ObjectLabels:
        """The listed objects that the agent's cameras see, by its map; without any map in the data set those nearby."""
        if not self._has_maps:
            return objects_within(metadata.objects, metadata.world_SE3_lidar, SIGHT_RANGE_M)
        return visible_objects(metadata.objects, read_grey(self._map_path(place)), metadata.world_SE3_lidar)

    def _map_path(self, place: _Place) -> Path:
        path = self._folder(self.root / "additional", place) / f"{place.stamp}{VISIBILITY_SUFFIX}"
        return path if path.exists() else self._folder(self.root, place) / path.name

    def _folder(self, root: Path, place: _Place) -> Path:
        return root / self.split / place.scenario.name / place.agent_id

    def _hetero_tree(self) -> Path:
        if not self.hetero_root.is_dir():
            raise DatasetError(self.hetero_root, "no such folder; depth and clouds of 16 or 32 beams lie there: give hetero_root")
        return self.hetero_root


def _default_hetero_root(root: Path) -> Path:
    named = root.with_name(f"{root.name}_Hetero")
    return named if named.is_dir() else root.with_name("OPV2V_Hetero")


def _nothing_here(found: list[Scenario], ego_id: str | None) -> str:
    if ego_id is None or not found:
        return "no frame here; expected <scenario>/<agent>/<stamp>.yaml"
    known = sorted({agent_id for scenario in found for agent_id in scenario.agent_ids})
    return f"unknown agent {ego_id!r} wanted as ego; there are {', '.join(known[:20])}"
