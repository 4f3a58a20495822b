"""DAIR-V2X-C as a source of scenes: one vehicle and one roadside unit at real crossings.

    ROOT/cooperative-vehicle-infrastructure/vehicle-side|infrastructure-side|cooperative
    ROOT/train.json, val.json          lists of vehicle frame ids; or the official cooperative-split-data.json

ROOT may also be the inner folder; the lists may lie in it or beside it. If the complemented labels are installed, the original
labels lie in folders ending in _backup. Complemented labels reach all around; original labels cover the view of the front camera.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from heal.datasets.dair.calibration import read_camera, read_chain
from heal.datasets.dair.index import (
    COOPERATIVE,
    INDEX_NAME,
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
from heal.datasets.dataset import DatasetError, DatasetSummary, LabelRule, Origin, Skipped, UnknownAgentError
from heal.datasets.files import IMAGE_ENDINGS, LIDAR_ONLY, errors_naming, find_file, read_json
from heal.datasets.labels import counted_text, dair_left_out, dair_objects, dair_world_objects
from heal.datasets.lidar import CLOUD_ENDINGS, LidarReader, sample_clouds
from heal.detection.classes import VEHICLES, Classes
from heal.types import BEAMS, AgentFrame, CameraView, Float64, LidarScan, ObjectLabels, SceneOutline, Sensor, SensorChoice

SPLIT_ALIASES = {"validate": "val", "validation": "val"}
VEHICLE, ROADSIDE = "vehicle", "roadside"
SIDE_FOLDERS = {VEHICLE: VEHICLE_SIDE, ROADSIDE: ROADSIDE_SIDE}
SIDE_BEAMS = {VEHICLE: 40, ROADSIDE: 300}  # laser lines of the LiDARs
# Added to the roadside unit's object ids: the two sides number their objects independently.
ROADSIDE_ID_OFFSET = 100_000
LABELS_ALONE = SensorChoice(lidar=False)


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
        intensity_scale: float | None = None,
        ground_truth: LabelRule = "joint",
        classes: Classes = VEHICLES,
    ) -> None:
        """Open a split: read its lists of frames, and look through its labels for objects that do not count.

        Args:
            root: the data set's folder or its inner folder.
            split: "train", "val" (or "validate"), or another name of a list.
            sensors: the sensor data that `agent_frame` reads without a choice of the caller's; there are no depth images.
            ego_id: "vehicle", the default, or "roadside".
            max_agents: 1 for the ego alone.
            intensity_scale: the value that stands for the intensity 1; by default judged by some sweeps of each side.
            ground_truth: "joint" takes the labels of a scene from its cooperative file. "merged" takes both sides' own labels, and
                drops a box of the second agent that overlaps one of the ego's by more than 0.05, as HEAL does; this needs torch.
            classes: the classes of the objects that are wanted.

        Raises:
            DatasetError: the folder or the split is missing or empty, or the ego is unknown.
        """
        self.folder = folder = _checked_folder(root, ego_id)
        self.choice, self.ground_truth, self.classes = SensorChoice.of(sensors), ground_truth, classes
        self.agent_ids = ((ROADSIDE, VEHICLE) if ego_id == ROADSIDE else (VEHICLE, ROADSIDE))[:max_agents]
        name = SPLIT_ALIASES.get(split, split)
        self._pairs, skipped = read_pairs(folder, read_dair_split(root, name))
        if not self._pairs:
            raise DatasetError(
                folder, f"none of the {len(skipped)} frames of split {name!r} can be used; {skipped[0][0]}: {skipped[0][1]}"
            )
        skipped += [("depth images", "DAIR-V2X-C has none")] if self.choice.depth else []
        self._sweeps = {agent_id: self._reader(agent_id, intensity_scale) for agent_id in self.agent_ids}
        self.summary = self._summary(root, name, skipped)

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self._pairs)

    def outline(self, index: int) -> SceneOutline:
        """Return the outline of scene `index`: the ego first, the time of the ego's sweep."""
        return replace(self.listed(index), world_SE3_ego=self._pose(self._pairs[index], self.agent_ids[0]))

    def listed(self, index: int) -> SceneOutline:
        """Return the outline of scene `index`, with the identity as the pose: no calibration is read."""
        pair, ego_id = self._pairs[index], self.agent_ids[0]
        stamp_ns = _side_frame(pair, ego_id).timestamp_ns
        joint = self.ground_truth == "joint"
        return SceneOutline(pair.scene_id, stamp_ns, ego_id, self.agent_ids, np.eye(4), labelled_as_whole=joint, roadside_ego=True)

    @property
    def scenario_agents(self) -> dict[str, tuple[str, ...]]:
        """The ids of the agents of every recording."""
        return dict.fromkeys((pair.batch for pair in self._pairs), self.agent_ids)

    @property
    def beams(self) -> tuple[int, ...]:
        """The largest number of laser lines alone: each agent has one cloud, its own."""
        return BEAMS[-1:]

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
        side, pose = _side_frame(pair, agent_id), self._pose(pair, agent_id)
        return AgentFrame(
            agent_id=agent_id,
            kind="vehicle" if agent_id == VEHICLE else "roadside",
            timestamp_ns=side.timestamp_ns,
            world_SE3_agent=pose,
            world_SE3_agent_measured=pose,
            lidar=self._lidar(side, agent_id) if choice.lidar else None,
            cameras=(self._camera(pair, agent_id),) if choice.cameras else (),
            objects=self._objects(side, agent_id, pose, choice),
        )

    def scene_objects(self, index: int) -> ObjectLabels:
        """Read the cooperative labels of scene `index`, or merge those of its agents."""
        if self.ground_truth == "merged":
            return self._merged_objects(index)
        path = self._label_files(self._pairs[index])[0]
        values = read_json(path)
        with errors_naming(path):
            return dair_world_objects(values, self.classes)

    def _merged_objects(self, index: int) -> ObjectLabels:
        """Merge the labels of the agents in the ego's frame, the ego's first."""
        from heal.detection.ground_truth import merge_by_iou  # needs torch, which reading does not

        frames = [self.agent_frame(index, agent_id, LABELS_ALONE) for agent_id in self.agent_ids]
        return merge_by_iou([frame.objects for frame in frames], frames[0].world_SE3_agent)

    def frame_origin(self, index: int, agent_id: str, choice: SensorChoice) -> Origin:
        """Return the files behind `agent_frame`; UnknownAgentError if the agent is not in the scene."""
        self._require(agent_id)
        pair, folder = self._pairs[index], self.folder / SIDE_FOLDERS[agent_id]
        side = _side_frame(pair, agent_id)
        cloud = (self._cloud_path(side, agent_id),) if choice.lidar else ()
        camera = self._camera_files(pair, agent_id) if choice.cameras else ()
        label = _label_path(folder, side.label, choice)
        files = (*cloud, *camera, *self._pose_files(pair, agent_id), label, *index_files(self.folder))
        name = f"{pair.scene_id} {agent_id}"
        return Origin(f"{name} {self._sweeps[agent_id].key}" if choice.lidar else name, files)

    def scene_origin(self, index: int) -> Origin:
        """Return the files behind `outline` and `scene_objects`."""
        if self.ground_truth == "merged":
            parts = [self.frame_origin(index, agent_id, LABELS_ALONE) for agent_id in self.agent_ids]
            return Origin(
                " ".join(["merged", *(part.name for part in parts)]), tuple(path for part in parts for path in part.files)
            )
        pair = self._pairs[index]
        files = (*self._pose_files(pair, self.agent_ids[0]), self._label_files(pair)[0], *index_files(self.folder))
        return Origin(f"{pair.scene_id} {' '.join(self.agent_ids)}", files)

    def _reader(self, agent_id: str, intensity_scale: float | None) -> LidarReader:
        """Return the reader of a side's sweeps; the folder of the first sweep holds those of all splits."""
        folder = self._cloud_path(_side_frame(self._pairs[0], agent_id), agent_id).parent
        return LidarReader(sample_clouds([folder]), intensity_scale)

    def _intensity_notes(self) -> list[str]:
        """Return what the summary says about the intensities; nothing where no sweeps are asked for."""
        readers = self._sweeps.items() if self.choice.lidar else ()
        return [f"{agent_id}: {note}" for agent_id, reader in readers for note in reader.notes]

    def _cloud_path(self, side: SideFrame, agent_id: str) -> Path:
        return find_file(self.folder / SIDE_FOLDERS[agent_id] / side.cloud, CLOUD_ENDINGS)

    def _lidar(self, side: SideFrame, agent_id: str) -> LidarScan:
        return LidarScan(self._sweeps[agent_id].read(self._cloud_path(side, agent_id)), SIDE_BEAMS[agent_id])

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

    def _camera(self, pair: FramePair, agent_id: str) -> CameraView:
        return read_camera(*self._camera_files(pair, agent_id))

    def _camera_files(self, pair: FramePair, agent_id: str) -> tuple[Path, Path, Path]:
        """Return a side's image, its matrix and its calibration; DatasetError if the side's list does not name all of them."""
        side, folder = _side_frame(pair, agent_id), self.folder / SIDE_FOLDERS[agent_id]
        if side.camera is None:
            cause = side.no_camera.removeprefix(f"{SIDE_FOLDERS[agent_id]}/{INDEX_NAME}: ")
            raise DatasetError(
                folder / INDEX_NAME, f"frame {PurePosixPath(side.cloud).stem}: {cause}; camera images were asked for"
            )
        image, intrinsic, lidar_to_camera = side.camera
        return find_file(folder / image, IMAGE_ENDINGS), folder / intrinsic, folder / lidar_to_camera

    def _label_files(self, pair: FramePair) -> tuple[Path, Path, Path]:
        """Return the files of the cooperative labels, the vehicle's and the roadside unit's."""
        return (
            self.folder / COOPERATIVE / pair.label,
            self.folder / VEHICLE_SIDE / pair.vehicle.label,
            self.folder / ROADSIDE_SIDE / pair.roadside.label,
        )

    def _summary(self, root: Path, split: str, skipped: Skipped) -> DatasetSummary:
        scenarios = len({pair.batch for pair in self._pairs})
        return DatasetSummary(
            "DAIR-V2X-C",
            root,
            split,
            scenarios,
            len(self._pairs),
            len(self.agent_ids) * scenarios,
            tuple(skipped),
            labels=self._kind_of_labels(),
            notes=(*self._notes(), *self._intensity_notes()),
            ground_truth=self.ground_truth,
        )

    def _kind_of_labels(self) -> str:
        """Say which of the two published sets of labels is read: where the complemented one is installed, a backup lies beside."""
        cooperative, vehicle, _ = (_backup(path).is_dir() for path in self._label_files(self._pairs[0]))
        kind = "complemented labels" if cooperative else "original labels"
        return kind if vehicle == cooperative else f"{kind} (the vehicle's own labels are the other kind)"

    def _notes(self) -> tuple[str, ...]:
        """Return lines about the labels that are left out, and about frames without a time."""
        left_out: Counter[str] = Counter()
        for path in (path for pair in self._pairs for path in self._label_files(pair)):
            left_out.update(_left_out(path, self.classes))
        blank = sum(pair.vehicle.timestamp_ns == 0 for pair in self._pairs)
        notes = [f"labels left out: {counted_text(left_out)}"] if left_out else []
        return (*notes, *([f"{blank} frames without a time, which counts as 0"] if blank else []))

    def _objects(self, side: SideFrame, agent_id: str, pose: Float64, choice: SensorChoice) -> ObjectLabels:
        path = _label_path(self.folder / SIDE_FOLDERS[agent_id], side.label, choice)
        values = read_json(path)
        with errors_naming(path):
            objects = dair_objects(values, pose, self.classes)
        offset = ROADSIDE_ID_OFFSET if agent_id == ROADSIDE else 0
        return replace(objects, ids=objects.ids + offset)


def _checked_folder(root: Path, ego_id: str | None) -> Path:
    """Return the folder with the two sides; DatasetError if there is none, or if no agent has the id of the wanted ego."""
    folder = data_folder(root)
    if folder is None:
        raise DatasetError(root, f"no {VEHICLE_SIDE} and {ROADSIDE_SIDE} here, nor in {INNER_FOLDER}")
    if ego_id not in (None, VEHICLE, ROADSIDE):
        raise DatasetError(root, f"unknown agent {ego_id!r} wanted as ego; there are {VEHICLE}, {ROADSIDE}")
    return folder


def _label_path(folder: Path, relative: str, choice: SensorChoice) -> Path:
    """Return the path of a side's labels: for cameras the original labels, if complemented ones are installed beside them."""
    label = folder / relative
    backup = _backup(label)
    return backup / label.name if choice.labels == "camera" and backup.is_dir() else label


def _backup(label: Path) -> Path:
    """Return the folder that holds the original labels where the complemented ones are installed."""
    return label.parent.with_name(f"{label.parent.name}_backup")


def _left_out(path: Path, classes: Classes) -> Counter[str]:
    """Count the entries of a label file that become no object; none in a file that cannot be read, because its frame names it."""
    try:
        with errors_naming(path):
            return dair_left_out(read_json(path), classes)
    except DatasetError:
        return Counter()


def _side_frame(pair: FramePair, agent_id: str) -> SideFrame:
    return pair.vehicle if agent_id == VEHICLE else pair.roadside
