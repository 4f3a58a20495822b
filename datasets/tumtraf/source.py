"""TUMTraf-V2X as a source of scenes: a vehicle and a roadside unit with LiDARs at a crossing near Munich.

    ROOT/train|val|test/labels_point_clouds/s110_lidar_ouster_south_and_vehicle_lidar_robosense_registered/<stamp>_<sensors>.json
    ROOT/train|val|test/point_clouds/s110_lidar_ouster_south/<stamp>_s110_lidar_ouster_south.pcd
    ROOT/train|val|test/point_clouds/vehicle_lidar_robosense/<stamp>_vehicle_lidar_robosense.pcd

The folders' names may begin with an underscore. A label file names the two clouds and has the vehicle's pose in the roadside
LiDAR's frame, which is the world here. Images are not read: their calibration is not part of the data set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from heal.datasets.dataset import DatasetError, DatasetSummary, Origin, Skipped, UnknownAgentError
from heal.datasets.files import LIDAR_ONLY, find_file
from heal.datasets.labels import counted_text
from heal.datasets.lidar import CLOUD_ENDINGS, LidarReader, sample_clouds
from heal.datasets.opv2v.source import SIGHT_RANGE_M
from heal.datasets.split_names import find_split_in, names_of
from heal.datasets.tumtraf.openlabel import EXAMPLE, ROADSIDE_LIDAR, VEHICLE_LIDAR, LabelledFrame, has_stamp, read_frame, stamp_ns
from heal.detection.classes import VEHICLES, Classes
from heal.detection.label_filters import objects_within, without_vehicle_at
from heal.types import BEAMS, AgentFrame, Float64, LidarScan, ObjectLabels, SceneOutline, Sensor, SensorChoice

VEHICLE, ROADSIDE = "vehicle", "roadside"
SENSORS = {VEHICLE: VEHICLE_LIDAR, ROADSIDE: ROADSIDE_LIDAR}
LINES = {VEHICLE: 32, ROADSIDE: 64}
LABEL_FOLDERS = ("labels_point_clouds", "_labels_point_clouds")
CLOUD_FOLDERS = ("point_clouds", "_point_clouds", "_points_clouds", "points_clouds")
REGISTERED = f"{ROADSIDE_LIDAR}_and_{VEHICLE_LIDAR}_registered"
SPLITS = ("train", "val", "test")
PAUSE_NS = 10_000_000_000  # a longer pause between two frames is the end of a recording


def holds_tumtraf(root: Path) -> bool:
    """Whether a folder holds a split of TUMTraf-V2X: labels of both LiDARs, or clouds of the vehicle's."""
    return any(next(_split_parts(root, split), None) for split in SPLITS)


def _split_parts(root: Path, split: str) -> Iterator[Path]:
    """Return the folders of a split that only this data set has."""
    for names, inner in ((LABEL_FOLDERS, REGISTERED), (CLOUD_FOLDERS, VEHICLE_LIDAR)):
        folders = (root / each / name / inner for each in names_of(split) for name in names)
        yield from (folder for folder in folders if folder.is_dir())


class TumTrafSource:
    """Scenes of one split of TUMTraf-V2X; the agents are called "vehicle" and "roadside".

    Attributes:
        folder: the folder of the split.
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
        classes: Classes = VEHICLES,
    ) -> None:
        """Open a split: list its label files, and look through them for labels that do not count.

        Args:
            root: the folder with train, val and test.
            split: "train", "val" (or "validate") or "test"; the labels of "test" are not published.
            sensors: the sensor data that `agent_frame` reads without a choice of the caller's; images are not read.
            ego_id: "vehicle", the default, or "roadside".
            max_agents: 1 for the ego alone.
            intensity_scale: the value that stands for the intensity 1; by default judged by some sweeps of each LiDAR.
            classes: the classes of the objects that are wanted.

        Raises:
            DatasetError: the split is missing or has no labels, or the ego is unknown.
        """
        if ego_id not in (None, VEHICLE, ROADSIDE):
            raise DatasetError(root, f"unknown agent {ego_id!r} wanted as ego; there are {VEHICLE}, {ROADSIDE}")
        self.folder = root / find_split_in(root, split)
        self.choice, self.classes = SensorChoice.of(sensors), classes
        self.agent_ids = ((ROADSIDE, VEHICLE) if ego_id == ROADSIDE else (VEHICLE, ROADSIDE))[:max_agents]
        skipped: Skipped = [(kind, "TUMTraf-V2X's are not read") for kind in ("camera", "depth") if kind in sensors]
        self._labels = _label_files(self.folder, skipped)
        self._recordings = _recordings([path.name for path in self._labels])
        self._clouds = _first_folder(self.folder, CLOUD_FOLDERS)
        self._sweeps = {
            each: LidarReader(sample_clouds([self._clouds / SENSORS[each]]), intensity_scale) for each in self.agent_ids
        }
        self.summary = self._summary(root, skipped)

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self._labels)

    def outline(self, index: int) -> SceneOutline:
        """Return the outline of scene `index`: the ego first, the time of the labels."""
        return replace(self.listed(index), world_SE3_ego=_pose(self._frame(index), self.agent_ids[0]))

    def listed(self, index: int) -> SceneOutline:
        """Return the outline of scene `index`, with the identity as the pose: no file is read."""
        name = self._labels[index].name
        scene_id = f"{self._recordings[index]}/{'_'.join(name.split('_')[:2])}"
        return SceneOutline(
            scene_id, stamp_ns(name), self.agent_ids[0], self.agent_ids, np.eye(4), labelled_as_whole=True, roadside_ego=True
        )

    @property
    def scenario_agents(self) -> dict[str, tuple[str, ...]]:
        """The ids of the agents of every recording."""
        return dict.fromkeys(self._recordings, self.agent_ids)

    @property
    def beams(self) -> tuple[int, ...]:
        """The largest number of laser lines alone: each agent has one cloud, its own."""
        return BEAMS[-1:]

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """Read an agent's frame. The labels of both agents are all labels, without the vehicle that carries the agent.

        Raises:
            UnknownAgentError: the agent is not in the scene.
            DatasetError: a file cannot be used.
        """
        choice = choice or self.choice
        self._require(agent_id)
        frame = self._frame(index)
        pose = _pose(frame, agent_id)
        cloud, time_ns = self._cloud(index, agent_id) if choice.lidar else (None, stamp_ns(self._labels[index].name))
        objects = without_vehicle_at(frame.objects, pose) if agent_id == VEHICLE else frame.objects
        return AgentFrame(
            agent_id=agent_id,
            kind="vehicle" if agent_id == VEHICLE else "roadside",
            timestamp_ns=time_ns,
            world_SE3_agent=pose,
            world_SE3_agent_measured=pose,
            lidar=LidarScan(self._sweeps[agent_id].read(cloud), LINES[agent_id]) if cloud else None,
            objects=objects if choice.labels == "lidar" else objects_within(objects, pose, SIGHT_RANGE_M),
        )

    def scene_objects(self, index: int) -> ObjectLabels:
        """Read the labels of scene `index`."""
        return self._frame(index).objects

    def frame_origin(self, index: int, agent_id: str, choice: SensorChoice) -> Origin:
        """Return the files behind `agent_frame`; UnknownAgentError if the agent is not in the scene."""
        self._require(agent_id)
        sweep = (self._cloud(index, agent_id)[0],) if choice.lidar else ()
        return Origin(f"{agent_id} {self._sweeps[agent_id].key}" if choice.lidar else agent_id, (*sweep, self._labels[index]))

    def scene_origin(self, index: int) -> Origin:
        """Return the files behind `outline` and `scene_objects`."""
        return Origin(" ".join(self.agent_ids), (self._labels[index],))

    def _frame(self, index: int) -> LabelledFrame:
        return read_frame(self._labels[index], self.classes)

    def _cloud(self, index: int, agent_id: str) -> tuple[Path, int]:
        """Return an agent's sweep and its time; DatasetError if the label file names none of its LiDAR."""
        sensor, clouds = SENSORS[agent_id], self._frame(index).clouds
        if sensor not in clouds:
            raise DatasetError(self._labels[index], f"point_cloud_file_names: no cloud of {sensor}, there are {', '.join(clouds)}")
        name, time_ns = clouds[sensor]
        return find_file(self._clouds / sensor / name, CLOUD_ENDINGS), time_ns

    def _require(self, agent_id: str) -> None:
        if agent_id not in self.agent_ids:
            raise UnknownAgentError(self.folder, f"no agent {agent_id!r}, there are {', '.join(self.agent_ids)}")

    def _summary(self, root: Path, skipped: Skipped) -> DatasetSummary:
        left_out: Counter[str] = Counter()
        for path in self._labels:
            left_out.update(_left_out(path, self.classes))
        notes = [f"labels left out: {counted_text(left_out)}"] if left_out else []
        readers = self._sweeps.items() if self.choice.lidar else ()
        notes += [f"{agent_id}: {note}" for agent_id, reader in readers for note in reader.notes]
        recordings = len(set(self._recordings))
        counts = recordings, len(self._labels), recordings * len(self.agent_ids)
        return DatasetSummary("TUMTraf-V2X", root, self.folder.name, *counts, tuple(skipped), notes=tuple(notes))


def _pose(frame: LabelledFrame, agent_id: str) -> Float64:
    """Return `world_SE3_agent`: the world is the roadside LiDAR's frame."""
    return frame.world_SE3_vehicle if agent_id == VEHICLE else np.eye(4)


def _first_folder(folder: Path, names: tuple[str, ...]) -> Path:
    return next((folder / name for name in names if (folder / name).is_dir()), folder / names[0])


def _label_files(folder: Path, skipped: Skipped) -> list[Path]:
    """Return the label files of a split in order of time, and append those whose names have no time to `skipped`."""
    labels = _first_folder(folder, LABEL_FOLDERS) / REGISTERED
    if not labels.is_dir():
        raise DatasetError(labels, "no such folder, so the split has no labels; those of the test split are not published")
    paths = sorted(labels.glob("*.json"))
    found = sorted((stamp_ns(path.name), path) for path in paths if has_stamp(path.name))
    skipped += [(path.name, f"expected a name such as {EXAMPLE}.json") for path in paths if not has_stamp(path.name)]
    if not found:
        raise DatasetError(labels, f"no label file here, expected names such as {EXAMPLE}.json")
    return [path for _, path in found]


def _recordings(names: list[str]) -> list[str]:
    """Return the recording of each frame, given by names in order of time: it is called after the second of its first frame."""
    recordings: list[str] = []
    before_ns = -PAUSE_NS - 1
    for name in names:
        now_ns = stamp_ns(name)
        recordings.append(recordings[-1] if now_ns - before_ns <= PAUSE_NS else name.split("_")[0])
        before_ns = now_ns
    return recordings


def _left_out(path: Path, classes: Classes) -> Counter[str]:
    """Count the labels of a file that become no object; none in a file that cannot be read, because its scene names it."""
    try:
        return Counter(read_frame(path, classes).left_out)
    except DatasetError:
        return Counter()
