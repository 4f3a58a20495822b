"""DAIR-V2X-C: one vehicle and one roadside unit at real crossings, to scenes.

    ROOT/cooperative-vehicle-infrastructure/vehicle-side|infrastructure-side|cooperative
    ROOT/train.json, val.json          lists of vehicle frame ids; or the official cooperative-split-data.json

ROOT may also be the inner folder; the lists may lie in it or beside it. Where the complemented labels are installed, the originals
lie in folders ending in _backup. The complemented ones reach all around; the originals cover what the front camera sees.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PurePosixPath

from heal.datasets.dair.calibration import read_camera, read_chain
from heal.datasets.dair.index import (
    COOPERATIVE,
    ROADSIDE_SIDE,
    VEHICLE_SIDE,
    Pair,
    SideFrame,
    data_folder,
    index_files,
    read_pairs,
    read_split,
)
from heal.datasets.dataset import DatasetError, DatasetSummary, Origin, UnknownAgentError
from heal.datasets.files import LIDAR_ONLY, naming, read_json
from heal.datasets.labels import dair_objects, dair_world_objects
from heal.datasets.pcd import read_lidar
from heal.types import AgentFrame, Float64, LidarScan, ObjectLabels, SceneOutline, Sensor, SensorChoice

SPLITS = {"validate": "val", "validation": "val"}
VEHICLE, ROADSIDE = "vehicle", "roadside"
SIDE_FOLDERS = {VEHICLE: VEHICLE_SIDE, ROADSIDE: ROADSIDE_SIDE}
BEAMS = {VEHICLE: 40, ROADSIDE: 300}
# The two sides number their objects independently; this keeps the numbers apart.
ROADSIDE_ID_OFFSET = 100_000


class DairSource:
    """Scenes of one split; the agents are called "vehicle" and "roadside".

    Attributes:
        summary: what was found and what was skipped.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        sensors: Collection[Sensor] = LIDAR_ONLY,
        *,
        ego_id: str | None = None,
        max_agents: int = 2,
        front_labels: bool = False,
    ) -> None:
        """Read the lists of frames.

        Args:
            root: see above.
            split: "train", "val" (or "validate"), or another name of a list.
            sensors: what to read where `agent_frame` is not given a choice. There are no depth images, and one cloud alone.
            ego_id: "vehicle", the default, or "roadside".
            max_agents: 1 for the ego alone.
            front_labels: read the original labels, which end where the front camera's view does, where there are both.

        Raises:
            DatasetError: no such folder or split, an empty one, or an unknown agent as ego.
        """
        folder = data_folder(root)
        if folder is None:
            raise DatasetError(root, f"no {VEHICLE_SIDE} and {ROADSIDE_SIDE} here, nor in cooperative-vehicle-infrastructure")
        if ego_id not in (None, VEHICLE, ROADSIDE):
            raise DatasetError(root, f"unknown agent {ego_id!r} wanted as ego; there are {VEHICLE}, {ROADSIDE}")
        self.folder = folder
        self.choice = SensorChoice.of(sensors)
        self.front_labels = front_labels
        self.agent_ids = ((ROADSIDE, VEHICLE) if ego_id == ROADSIDE else (VEHICLE, ROADSIDE))[:max_agents]
        name = SPLITS.get(split, split)
        self._pairs, skipped = read_pairs(folder, read_split(root, name))
        if not self._pairs:
            raise DatasetError(
                folder, f"none of the {len(skipped)} frames of split {name!r} is here; {skipped[0][0]}: {skipped[0][1]}"
            )
        skipped += [("depth images", "DAIR-V2X-C has none")] if self.choice.depth else []
        self.summary = _summary(root, name, self._pairs, len(self.agent_ids), skipped)

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self._pairs)

    def outline(self, index: int) -> SceneOutline:
        """Who takes part; the ego comes first. The time is the ego's own."""
        pair, ego_id = self._pairs[index], self.agent_ids[0]
        return SceneOutline(
            scene_id=pair.scene_id,
            timestamp_ns=_side(pair, ego_id).timestamp_ns,
            ego_id=ego_id,
            agent_ids=self.agent_ids,
            world_SE3_ego=self._pose(pair, ego_id),
        )

    @property
    def scenario_agents(self) -> dict[str, tuple[str, ...]]:
        """The agents of every recording."""
        return dict.fromkeys((pair.batch for pair in self._pairs), self.agent_ids)

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """What an agent senses; UnknownAgentError if there is no such agent, DatasetError for an unusable file.

        What cameras see are the labels of the front camera: the original ones, where complemented ones are installed.
        """
        choice = choice or self.choice
        self._require(agent_id)
        pair = self._pairs[index]
        side, folder = _side(pair, agent_id), self.folder / SIDE_FOLDERS[agent_id]
        pose = self._pose(pair, agent_id)
        camera = folder / side.image, folder / side.intrinsic, folder / side.lidar_to_camera
        return AgentFrame(
            agent_id=agent_id,
            kind="vehicle" if agent_id == VEHICLE else "roadside",
            timestamp_ns=side.timestamp_ns,
            world_SE3_agent=pose,
            world_SE3_agent_measured=pose,
            lidar=LidarScan(read_lidar(folder / side.cloud), BEAMS[agent_id]) if choice.lidar else None,
            cameras=(read_camera(*camera),) if choice.cameras else (),
            objects=self._objects(side, agent_id, pose, self._front(choice)),
        )

    def scene_objects(self, index: int) -> ObjectLabels:
        """The cooperative labels."""
        path = _label_path(self.folder / COOPERATIVE, self._pairs[index].label, self.front_labels)
        values = read_json(path)
        with naming(path):
            return dair_world_objects(values)

    def offset_m(self, index: int) -> tuple[float, float]:
        """The `system_error_offset` that is part of the roadside unit's pose in a scene: x and y in the world, metres."""
        return self._pairs[index].offset_m

    def frame_origin(self, index: int, agent_id: str, choice: SensorChoice) -> Origin:
        """What `agent_frame` depends on, images left aside; UnknownAgentError if there is no such agent."""
        self._require(agent_id)
        pair, folder = self._pairs[index], self.folder / SIDE_FOLDERS[agent_id]
        side = _side(pair, agent_id)
        cloud = (folder / side.cloud,) if choice.lidar else ()
        label = _label_path(folder, side.label, self._front(choice))
        files = (*cloud, *self._pose_files(pair, agent_id), label, *index_files(self.folder))
        return Origin(f"{pair.scene_id} {agent_id}", files)

    def scene_origin(self, index: int) -> Origin:
        """What `outline` and `scene_objects` depend on."""
        pair = self._pairs[index]
        label = _label_path(self.folder / COOPERATIVE, pair.label, self.front_labels)
        files = (*self._pose_files(pair, self.agent_ids[0]), label, *index_files(self.folder))
        return Origin(f"{pair.scene_id} {' '.join(self.agent_ids)}", files)

    def _require(self, agent_id: str) -> None:
        if agent_id not in self.agent_ids:
            raise UnknownAgentError(self.folder, f"no agent {agent_id!r}, there are {', '.join(self.agent_ids)}")

    def _front(self, choice: SensorChoice) -> bool:
        return self.front_labels or choice.labels == "camera"

    def _pose_files(self, pair: Pair, agent_id: str) -> list[Path]:
        folder = self.folder / SIDE_FOLDERS[agent_id]
        return [folder / path for path in _side(pair, agent_id).poses]

    def _pose(self, pair: Pair, agent_id: str) -> Float64:
        pose = read_chain(self._pose_files(pair, agent_id))
        if agent_id == ROADSIDE:
            pose[:2, 3] += pair.offset_m
        return pose

    def _objects(self, side: SideFrame, agent_id: str, pose: Float64, front: bool) -> ObjectLabels:
        path = _label_path(self.folder / SIDE_FOLDERS[agent_id], side.label, front)
        values = read_json(path)
        with naming(path):
            objects = dair_objects(values, pose)
        offset = ROADSIDE_ID_OFFSET if agent_id == ROADSIDE else 0
        return ObjectLabels(objects.ids + offset, objects.world_corners)


def _label_path(folder: Path, relative: str, front: bool) -> Path:
    """The label file, or the original one where that is wanted and has been set aside."""
    label = PurePosixPath(relative)
    backup = folder / label.parent.with_name(f"{label.parent.name}_backup")
    return backup / label.name if front and backup.is_dir() else folder / label


def _side(pair: Pair, agent_id: str) -> SideFrame:
    return pair.vehicle if agent_id == VEHICLE else pair.roadside


def _summary(root: Path, split: str, pairs: list[Pair], agents: int, skipped: list[tuple[str, str]]) -> DatasetSummary:
    scenarios = len({pair.batch for pair in pairs})
    return DatasetSummary("DAIR-V2X-C", root, split, scenarios, len(pairs), agents * scenarios, tuple(skipped))
