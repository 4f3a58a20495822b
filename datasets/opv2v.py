"""OPV2V, and what is written in its layout (V2XSet, OPV2V-H, the built-in town): folders to scenes.

    ROOT/train|validate|test/<scenario>/<agent>/<stamp>.yaml, .pcd, _camera0.png .. _camera3.png
    ROOT_Hetero/<the same>/<stamp>_16.pcd, _32.pcd, _depth0.png .. _depth3.png

Opening lists folders and reads no file. An agent whose number is negative is a roadside unit (V2XSet).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from heal.datasets.errors import DatasetError, UnknownAgentError
from heal.datasets.files import LIDAR_ONLY, read_depth, read_image
from heal.datasets.opv2v_index import Scenario, read_split, with_ego
from heal.datasets.opv2v_metadata import CameraCalibration, FrameMetadata, read_metadata
from heal.datasets.pcd import read_lidar
from heal.datasets.summary import DatasetSummary
from heal.types import AgentFrame, AgentKind, CameraView, LidarScan, ObjectLabels, SceneOutline, Sensor

SPLITS = {"val": "validate", "validation": "validate"}
FULL_BEAMS = 64
BEAMS = (16, 32, FULL_BEAMS)
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
        beams: int | Mapping[str, int] = FULL_BEAMS,
        ego_id: str | None = None,
        max_agents: int = 5,
    ) -> None:
        """List what is there.

        Args:
            root: the folder that holds train, validate and test.
            split: "train", "validate" (or "val") or "test".
            sensors: what to read. Depth comes with the images it belongs to.
            hetero_root: the folder with depth and thinned clouds; by default ROOT_Hetero, or OPV2V_Hetero beside `root`.
            beams: which cloud to read, 64, 32 or 16; or a mapping to that from agents, "641", or "scenario/641" where it differs.
            ego_id: the ego. By default the first agent in the order of the folder names as strings, vehicles before roadside units.
            max_agents: use the ego and at most so many agents in all.

        Raises:
            DatasetError: no such split, nothing in it, no such agent, or depth or a thinned cloud wanted without `hetero_root`.
        """
        self.root = root
        self.split = SPLITS.get(split, split)
        self.sensors = frozenset(sensors)
        self.beams = beams
        self.hetero_root = hetero_root or _default_hetero_root(root)
        self._require_hetero()
        found, skipped = read_split(root / self.split)
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

    def agent_frame(self, index: int, agent_id: str) -> AgentFrame:
        """What an agent senses; UnknownAgentError if it takes no part, DatasetError for an unusable file."""
        scenario, stamp = self._scenes[index]
        if agent_id not in scenario.agents_at(stamp):
            there = ", ".join(scenario.agents_at(stamp))
            raise UnknownAgentError(self.root / self.split / scenario.name, f"no agent {agent_id!r} at {stamp}, there are {there}")
        place = _Place(scenario, agent_id, stamp)
        metadata = self._metadata(place)
        kind: AgentKind = "roadside" if agent_id.startswith("-") or metadata.roadside else "vehicle"
        return AgentFrame(
            agent_id=agent_id,
            kind=kind,
            timestamp_ns=int(stamp) * STAMP_NS,
            world_SE3_agent=metadata.world_SE3_lidar,
            world_SE3_agent_measured=metadata.world_SE3_lidar,
            lidar=self._lidar(place) if "lidar" in self.sensors else None,
            cameras=self._cameras(place, metadata) if self.sensors & {"camera", "depth"} else (),
            objects=metadata.objects,
        )

    def scene_objects(self, index: int) -> ObjectLabels:
        """The union of what the agents of the scene have labelled, by id; reads their metadata alone."""
        scenario, stamp = self._scenes[index]
        places = [_Place(scenario, agent_id, stamp) for agent_id in scenario.agents_at(stamp)]
        return ObjectLabels.union([self._metadata(place).objects for place in places])

    def _metadata(self, place: _Place) -> FrameMetadata:
        return read_metadata(self._folder(self.root, place) / place.stamp)

    def _lidar(self, place: _Place) -> LidarScan:
        beams = self._beams_of(place)
        root, suffix = (self.root, "") if beams == FULL_BEAMS else (self.hetero_root, f"_{beams}")
        return LidarScan(read_lidar(self._folder(root, place) / f"{place.stamp}{suffix}.pcd"), beams)

    def _beams_of(self, place: _Place) -> int:
        if not isinstance(self.beams, Mapping):
            return self.beams
        exact = self.beams.get(f"{place.scenario.name}/{place.agent_id}")
        return exact or self.beams.get(place.agent_id, FULL_BEAMS)

    def _cameras(self, place: _Place, metadata: FrameMetadata) -> tuple[CameraView, ...]:
        return tuple(self._camera(place, calibration) for calibration in metadata.cameras)

    def _camera(self, place: _Place, calibration: CameraCalibration) -> CameraView:
        depth = None
        if "depth" in self.sensors:
            name = calibration.name.replace("camera", "depth")
            depth = read_depth(self._folder(self.hetero_root, place) / f"{place.stamp}_{name}.png")
        image = read_image(self._folder(self.root, place) / f"{place.stamp}_{calibration.name}.png")
        return CameraView(calibration.name, image, calibration.intrinsic, calibration.agent_SE3_camera, depth)

    def _folder(self, root: Path, place: _Place) -> Path:
        return root / self.split / place.scenario.name / place.agent_id

    def _require_hetero(self) -> None:
        wanted = set(self.beams.values()) if isinstance(self.beams, Mapping) else {self.beams}
        if wanted - set(BEAMS):
            raise ValueError(f"beams: expected some of {BEAMS}, got {sorted(wanted)}")
        if ("depth" in self.sensors or wanted - {FULL_BEAMS}) and not self.hetero_root.is_dir():
            raise DatasetError(self.hetero_root, "no such folder; depth and clouds of 16 or 32 beams lie there: give hetero_root")


def _default_hetero_root(root: Path) -> Path:
    named = root.with_name(f"{root.name}_Hetero")
    return named if named.is_dir() else root.with_name("OPV2V_Hetero")


def _nothing_here(found: list[Scenario], ego_id: str | None) -> str:
    if ego_id is None or not found:
        return "no frame here; expected <scenario>/<agent>/<stamp>.yaml"
    known = sorted({agent_id for scenario in found for agent_id in scenario.agent_ids})
    return f"unknown agent {ego_id!r} wanted as ego; there are {', '.join(known[:20])}"
