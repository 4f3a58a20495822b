"""DAIR-V2X-C as a source of scenes: one vehicle and one roadside unit at real crossings.

    ROOT/cooperative-vehicle-infrastructure/vehicle-side|infrastructure-side|cooperative
    ROOT/train.json, val.json          lists of vehicle frame ids; or the official cooperative-split-data.json

ROOT may also be the inner folder; the lists may lie in it or beside it. If the complemented labels are installed, the original
labels lie in folders ending in _backup. Complemented labels reach all around; original labels cover the view of the front camera.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PurePosixPath

from heal.datasets.dair.calibration import read_camera, read_chain
from heal.datasets.dair.index import (
    COOPERATIVE,
    INNER_FOLDER,
    ROADSIDE_SIDE,
    VEHICLE_SIDE,
    FramePair,
    SideFrame,
    data_folder,
    index_files,
    read_dair_split,
    read_pairs,
)
from heal.datasets.dataset import DatasetError, DatasetSummary, Origin, Skipped, UnknownAgentError
from heal.datasets.files import LIDAR_ONLY, errors_naming, read_json
from heal.datasets.labels import dair_objects, dair_world_objects
from heal.datasets.pcd import read_lidar
from heal.types import AgentFrame, Float64, LidarScan, ObjectLabels, SceneOutline, Sensor, SensorChoice

SPLIT_ALIASES = {"validate": "val", "validation": "val"}
VEHICLE, ROADSIDE = "vehicle", "roadside"
SIDE_FOLDERS = {VEHICLE: VEHICLE_SIDE, ROADSIDE: ROADSIDE_SIDE}
SIDE_BEAMS = {VEHICLE: 40, ROADSIDE: 300}  # laser lines of the LiDARs
# Added to the roadside unit's object ids: the two sides number their objects independently.
ROADSIDE_ID_OFFSET = 100_000


class DairSource:
    """Scenes of one split of DAIR-V2X-C; the agents are called "vehicle" and "roadside".

    Attributes:
        folder: the folder with the two sides.
        choice: the sensor data that `agent_frame` reads without a choice of the caller's.
        agent_ids: the agents that take part, the ego first.
        summary: the scenes that were found, and everything that was skipped.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        sensors: Collection[Sensor] = LIDAR_ONLY,
        *,
        ego_id: str | None = None,
        max_agents: int = 2,
    ) -> None:
        """Open a split: read its lists of frames.

        Args:
            root: the data set's folder or its inner folder.
            split: "train", "val" (or "validate"), or another name of a list.
            sensors: the sensor data that `agent_frame` reads without a choice of the caller's; there are no depth images.
            ego_id: "vehicle", the default, or "roadside".
            max_agents: 1 for the ego alone.

        Raises:
            DatasetError: the folder or the split is missing or empty, or the ego is unknown.
        """
        folder = data_folder(root)
        if folder is None:
            raise DatasetError(root, f"no {VEHICLE_SIDE} and {ROADSIDE_SIDE} here, nor in {INNER_FOLDER}")
        if ego_id not in (None, VEHICLE, ROADSIDE):
            raise DatasetError(root, f"unknown agent {ego_id!r} wanted as ego; there are {VEHICLE}, {ROADSIDE}")
        self.folder = folder
        self.choice = SensorChoice.of(sensors)
        self.agent_ids = ((ROADSIDE, VEHICLE) if ego_id == ROADSIDE else (VEHICLE, ROADSIDE))[:max_agents]
        name = SPLIT_ALIASES.get(split, split)
        self._pairs, skipped = read_pairs(folder, read_dair_split(root, name))
        if not self._pairs:
            raise DatasetError(
                folder, f"none of the {len(skipped)} frames of split {name!r} is here; {skipped[0][0]}: {skipped[0][1]}"
            )
        skipped += [("depth images", "DAIR-V2X-C has none")] if self.choice.depth else []
        self.summary = _summary(root, name, self._pairs, len(self.agent_ids), skipped)

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self._pairs)

    def outline(self, index: int) -> SceneOutline:
        """Return the outline of scene `index`: the ego first, the time of the ego's sweep."""
        pair, ego_id = self._pairs[index], self.agent_ids[0]
        return SceneOutline(
            scene_id=pair.scene_id,
            timestamp_ns=_side_frame(pair, ego_id).timestamp_ns,
            ego_id=ego_id,
            agent_ids=self.agent_ids,
            world_SE3_ego=self._pose(pair, ego_id),
        )

    @property
    def scenario_agents(self) -> dict[str, tuple[str, ...]]:
        """The ids of the agents of every recording."""
        return dict.fromkeys((pair.batch for pair in self._pairs), self.agent_ids)

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """Read an agent's frame.

        For `choice.labels == "camera"` the original labels are read, because they cover the view of the front camera.

        Raises:
            UnknownAgentError: the agent is not in the scene.
            DatasetError: a file cannot be used.
        """
        choice = choice or self.choice
        self._require(agent_id)
        pair = self._pairs[index]
        side, folder = _side_frame(pair, agent_id), self.folder / SIDE_FOLDERS[agent_id]
        pose = self._pose(pair, agent_id)
        camera = folder / side.image, folder / side.intrinsic, folder / side.lidar_to_camera
        return AgentFrame(
            agent_id=agent_id,
            kind="vehicle" if agent_id == VEHICLE else "roadside",
            timestamp_ns=side.timestamp_ns,
            world_SE3_agent=pose,
            world_SE3_agent_measured=pose,
            lidar=LidarScan(read_lidar(folder / side.cloud), SIDE_BEAMS[agent_id]) if choice.lidar else None,
            cameras=(read_camera(*camera),) if choice.cameras else (),
            objects=self._objects(side, agent_id, pose, choice),
        )

    def scene_objects(self, index: int) -> ObjectLabels:
        """Read the cooperative labels of scene `index`."""
        path = self.folder / COOPERATIVE / self._pairs[index].label
        values = read_json(path)
        with errors_naming(path):
            return dair_world_objects(values)

    def frame_origin(self, index: int, agent_id: str, choice: SensorChoice) -> Origin:
        """Return the files behind `agent_frame`, without images; UnknownAgentError if the agent is not in the scene."""
        self._require(agent_id)
        pair, folder = self._pairs[index], self.folder / SIDE_FOLDERS[agent_id]
        side = _side_frame(pair, agent_id)
        cloud = (folder / side.cloud,) if choice.lidar else ()
        files = (*cloud, *self._pose_files(pair, agent_id), _label_path(folder, side.label, choice), *index_files(self.folder))
        return Origin(f"{pair.scene_id} {agent_id}", files)

    def scene_origin(self, index: int) -> Origin:
        """Return the files behind `outline` and `scene_objects`."""
        pair = self._pairs[index]
        label = self.folder / COOPERATIVE / pair.label
        files = (*self._pose_files(pair, self.agent_ids[0]), label, *index_files(self.folder))
        return Origin(f"{pair.scene_id} {' '.join(self.agent_ids)}", files)

    def _require(self, agent_id: str) -> None:
        if agent_id not in self.agent_ids:
            raise UnknownAgentError(self.folder, f"no agent {agent_id!r}, there are {', '.join(self.agent_ids)}")

    def _pose_files(self, pair: FramePair, agent_id: str) -> list[Path]:
        folder = self.folder / SIDE_FOLDERS[agent_id]
        return [folder / path for path in _side_frame(pair, agent_id).poses]

    def _pose(self, pair: FramePair, agent_id: str) -> Float64:
        """Read `world_SE3_agent`; the roadside unit's pose includes the pair's `system_error_offset`."""
        pose = read_chain(self._pose_files(pair, agent_id))
        if agent_id == ROADSIDE:
            pose[:2, 3] += pair.offset_m
        return pose

    def _objects(self, side: SideFrame, agent_id: str, pose: Float64, choice: SensorChoice) -> ObjectLabels:
        path = _label_path(self.folder / SIDE_FOLDERS[agent_id], side.label, choice)
        values = read_json(path)
        with errors_naming(path):
            objects = dair_objects(values, pose)
        offset = ROADSIDE_ID_OFFSET if agent_id == ROADSIDE else 0
        return ObjectLabels(objects.ids + offset, objects.world_corners)


def _label_path(folder: Path, relative: str, choice: SensorChoice) -> Path:
    """Return the path of a side's labels: for cameras the original labels, if complemented ones are installed beside them."""
    label = PurePosixPath(relative)
    backup = folder / label.parent.with_name(f"{label.parent.name}_backup")
    return backup / label.name if choice.labels == "camera" and backup.is_dir() else folder / label


def _side_frame(pair: FramePair, agent_id: str) -> SideFrame:
    return pair.vehicle if agent_id == VEHICLE else pair.roadside


def _summary(root: Path, split: str, pairs: list[FramePair], agents: int, skipped: Skipped) -> DatasetSummary:
    """Sum up a split; `agents` is the number of agents in each recording."""
    scenarios = len({pair.batch for pair in pairs})
    return DatasetSummary("DAIR-V2X-C", root, split, scenarios, len(pairs), agents * scenarios, tuple(skipped))
