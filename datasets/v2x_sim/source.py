"""V2X-Sim 2.0 as a source of scenes: vehicles and a roadside unit in CARLA's towns, in nuScenes-style tables.

    ROOT/v2.0/scene.json, sample.json, sample_data.json, ...     the tables; v2.0-mini and v1.0-mini in small releases
    ROOT/sweeps/LIDAR_TOP_id_<agent>/scene_<recording>_<frame>.pcd.bin
    ROOT/sweeps/CAM_FRONT_id_<agent>/scene_<recording>_<frame>.jpg

Agent 0 is the roadside unit, called "rsu_0" here; the vehicles are called "1", "2", ... An agent's frame has its origin in the
LiDAR and the axes of the tables' ego pose: x forward, y left, z up.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from heal.datasets.dataset import DatasetError, DatasetSummary, Origin, Skipped, UnknownAgentError
from heal.datasets.files import IMAGE_ENDINGS, LIDAR_ONLY, find_file, read_image
from heal.datasets.labels import counted_text, kept_labels, posed_objects, type_of_category
from heal.datasets.lidar import CLOUD_ENDINGS, LidarReader
from heal.datasets.opv2v.index import Scenario, agent_order, unknown_ego, with_ego
from heal.datasets.opv2v.source import SIGHT_RANGE_M
from heal.datasets.split_names import NoSplitError, find_split
from heal.datasets.v2x_sim.build import opened_index
from heal.datasets.v2x_sim.index import (
    AGENT,
    CALIBRATION,
    CAMERA,
    CATEGORY,
    CENTRE,
    INSTANCE,
    LIDAR,
    POSE,
    SAMPLE,
    SIZE_WLH,
    TURN,
    TableIndex,
)
from heal.datasets.v2x_sim.tables import TABLES, table_path, tables_folder
from heal.detection.classes import VEHICLES, Classes
from heal.detection.label_filters import objects_within, without_vehicle_at
from heal.se3 import quaternions_to_rotations, quaternions_to_SE3, relative_SE3
from heal.types import (
    BEAMS,
    WHOLE_SWEEP,
    AgentFrame,
    BoolMask,
    CameraView,
    Float64,
    LidarScan,
    ObjectLabels,
    SceneOutline,
    Sensor,
    SensorChoice,
)

# The authors' split of the 100 recordings, made after they found that their first one showed the same traffic twice; the 80 others
# are for training.
VALIDATE = frozenset({1, 3, 4, 63, 65, 68, 76, 78, 79, 84})
TEST = frozenset({5, 8, 19, 27, 28, 29, 91, 92, 96, 97})
LINES = 32  # of every LiDAR
LIDAR_RANGE_M = 70.0  # the labels of a sample list all vehicles of the town; those farther from an agent are none of its labels
FRAME_NS = 200_000_000  # recorded at 5 Hz
UNIX_US = 1e12  # times below are numbers of frames, not microseconds since 1970
ROADSIDE_NUMBER, ROADSIDE_PREFIX = 0, "rsu_"


class V2xSimSource:
    """Scenes of one split of V2X-Sim 2.0.

    Attributes:
        folder: the data set's folder, which the paths in the tables begin in.
        choice: the sensor data that `agent_frame` reads without a choice of the caller's.
        classes: the classes of its objects.
        scenarios: the recordings, each with its ego first; the numbers of their frames count the samples from 0.
        summary: the scenes that were found, and everything that was skipped.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        sensors: Collection[Sensor] = LIDAR_ONLY,
        *,
        ego_id: str | None = None,
        max_agents: int = 6,
        intensity_scale: float | None = None,
        cache: Path | None = None,
        classes: Classes = VEHICLES,
    ) -> None:
        """Open a split: read all tables, or the index of them in the cache.

        Args:
            root: the folder with the tables' folder, or the tables' folder itself.
            split: "train", "validate" (or "val") or "test", by the authors' lists of recordings.
            sensors: the sensor data that `agent_frame` reads without a choice of the caller's; depth images are not read.
            ego_id: the ego; by default the first vehicle of each recording.
            max_agents: the largest number of agents, the ego included.
            intensity_scale: the value that stands for the intensity 1; by default judged by some sweeps.
            cache: a folder that keeps the index of the tables; it is made if needed.
            classes: the classes of the objects that are wanted.

        Raises:
            DatasetError: a table is missing or damaged, the split is empty, or the ego is unknown.
        """
        self._tables = tables_folder(root) or root
        self.folder = self._tables.parent
        self.choice, self.classes = SensorChoice.of(sensors), classes
        whole = opened_index(self._tables, cache)
        self.split, keep = _chosen_scenes(self._tables, whole, split)
        self._index = whole.of_scenes(keep)
        self._types = tuple(map(type_of_category, self._index.categories))
        left_out = [*self._index.dropped, *self._list_scenes(ego_id, max_agents)]
        self._sweeps = LidarReader(self._sampled_sweeps(), intensity_scale, rings=True)
        self.summary = self._summary(left_out)

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self._scenes)

    def outline(self, index: int) -> SceneOutline:
        """Return the outline of scene `index`, the ego first."""
        scenario, number = self._scenes[index]
        return replace(self.listed(index), world_SE3_ego=self._pose(self._recordings(scenario, number, scenario.ego_id)[0]))

    def listed(self, index: int) -> SceneOutline:
        """Return the outline of scene `index`, with the identity as the pose."""
        scenario, number = self._scenes[index]
        ids, stamp = scenario.agents_at(number), scenario.stamps[scenario.ego_id][number]
        return SceneOutline(f"{scenario.name}/{stamp}", self._time_ns(scenario, number), scenario.ego_id, ids, np.eye(4))

    @property
    def scenario_agents(self) -> dict[str, tuple[str, ...]]:
        """The ids of all agents of every recording, agents beyond the limit included."""
        return {scenario.name: (*scenario.agent_ids, *scenario.unused) for scenario in self.scenarios}

    @property
    def beams(self) -> tuple[int, ...]:
        """The largest number of laser lines alone: each agent has one cloud, its own of 32 lines."""
        return BEAMS[-1:]

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """Read an agent's frame.

        Raises:
            UnknownAgentError: the agent is not in the scene.
            DatasetError: a file cannot be used.
        """
        choice = choice or self.choice
        scenario, number = self._scenes[index]
        lidar, *cameras = self._rows(index, agent_id)
        pose = self._pose(lidar)
        return AgentFrame(
            agent_id=agent_id,
            kind="vehicle" if _agent_number(agent_id) != ROADSIDE_NUMBER else "roadside",
            timestamp_ns=self._time_ns(scenario, number),
            world_SE3_agent=pose,
            world_SE3_agent_measured=pose,
            lidar=self._lidar(lidar) if choice.lidar else None,
            cameras=tuple(self._camera(row, pose) for row in cameras) if choice.cameras else (),
            objects=self._objects(index, agent_id, pose, choice),
        )

    def scene_objects(self, index: int) -> ObjectLabels:
        """Join the labels of all agents of scene `index`."""
        agent_ids = self.listed(index).agent_ids
        return ObjectLabels.union([self._objects(index, each, self._pose(self._rows(index, each)[0])) for each in agent_ids])

    def frame_origin(self, index: int, agent_id: str, choice: SensorChoice) -> Origin:
        """Return the files behind `agent_frame`; UnknownAgentError if the agent is not in the scene."""
        lidar, *cameras = self._rows(index, agent_id)
        images = [self._path(row) for row in cameras] if choice.cameras else []
        sweep = [self._path(lidar)] if choice.lidar else []
        name = f"{self.listed(index).scene_id} {agent_id}"
        return Origin(f"{name} {self._sweeps.key}" if choice.lidar else name, (*sweep, *images, *self._table_files))

    def scene_origin(self, index: int) -> Origin:
        """Return the files behind `outline` and `scene_objects`."""
        outline = self.listed(index)
        return Origin(f"{outline.scene_id} {' '.join(outline.agent_ids)}", self._table_files)

    @property
    def _table_files(self) -> tuple[Path, ...]:
        return tuple(table_path(self._tables, table) for table in TABLES)

    def _list_scenes(self, ego_id: str | None, max_agents: int) -> Skipped:
        """List the recordings and scenes; return what is left out, DatasetError if no scene is left."""
        found = _scenarios(self._index)
        self.scenarios, left_out = with_ego(found, ego_id, max_agents)
        self._first = {name: self._index.samples_of(scene).start for scene, name in enumerate(self._index.scenes)}
        self._scenes = [(scenario, number) for scenario in self.scenarios for number in scenario.frame_numbers]
        if not self._scenes:
            raise DatasetError(self._tables, unknown_ego(found, ego_id) or f"split {self.split}: no sample with a LiDAR's sweep")
        return left_out

    def _summary(self, left_out: Skipped) -> DatasetSummary:
        depth = [("depth images", "V2X-Sim's are not read")] if self.choice.depth else []
        types = [self._types[category] for category in self._index.labels[:, CATEGORY].tolist()]
        others = kept_labels(types, self._index.boxes[:, SIZE_WLH], self.classes)[1]
        notes = [f"labels left out: {counted_text(others)}"] if others else []
        if not self._in_microseconds:
            notes.append("the tables give numbers of frames as times; they are taken as recorded at 5 Hz")
        used = {scenario.name: len(scenario.agent_ids) for scenario, _ in self._scenes}
        return DatasetSummary(
            "V2X-Sim",
            self.folder,
            self.split,
            len(used),
            len(self._scenes),
            sum(used.values()),
            (*left_out, *depth),
            notes=(*notes, *(self._sweeps.notes if self.choice.lidar else ())),
        )

    def _sampled_sweeps(self) -> list[Path]:
        """Return sweeps that are spread over the split."""
        rows = np.flatnonzero(self._index.recordings[:, CAMERA] == LIDAR)
        return [self._path(int(row)) for row in rows[:: max(1, len(rows) // 8)][:8]]

    @property
    def _in_microseconds(self) -> bool:
        return bool((self._index.sample_time >= UNIX_US).all())

    def _time_ns(self, scenario: Scenario, number: int) -> int:
        time = self._index.sample_time[self._first[scenario.name] + number]
        return int(time) * 1000 if self._in_microseconds else number * FRAME_NS

    def _rows(self, index: int, agent_id: str) -> range:
        """Return the recordings of an agent of a scene, its sweep first."""
        scenario, number = self._scenes[index]
        if agent_id not in scenario.agents_at(number):
            known = ", ".join(scenario.agents_at(number))
            raise UnknownAgentError(self._tables, f"no agent {agent_id!r} in {scenario.name}, sample {number}, there are {known}")
        return self._recordings(scenario, number, agent_id)

    def _recordings(self, scenario: Scenario, number: int, agent_id: str) -> range:
        return self._index.recordings_of(self._first[scenario.name] + number, _agent_number(agent_id))

    def _path(self, row: int) -> Path:
        endings = CLOUD_ENDINGS if self._index.recordings[row, CAMERA] == LIDAR else IMAGE_ENDINGS
        return find_file(self.folder / self._index.file(row), endings)

    def _mounting(self, row: int) -> Float64:
        """Return `ego_SE3_sensor` (4, 4) of a recording, in the table's ego frame."""
        numbers = self._index.calibrations[self._index.recordings[row, CALIBRATION]]
        return quaternions_to_SE3(numbers[:3], numbers[3:])

    def _ego_pose(self, row: int) -> Float64:
        """Return `world_SE3_ego` (4, 4) at the time of a recording."""
        numbers = self._index.poses[self._index.recordings[row, POSE]]
        return quaternions_to_SE3(numbers[:3], numbers[3:])

    def _pose(self, lidar: int) -> Float64:
        """Return an agent's pose (4, 4): the axes of the ego frame, the origin in the LiDAR."""
        pose = self._ego_pose(lidar)
        pose[:3, 3] += pose[:3, :3] @ self._mounting(lidar)[:3, 3]
        return pose

    def _lidar(self, row: int) -> LidarScan:
        points = self._sweeps.read(self._path(row))
        turn = quaternions_to_rotations(self._index.calibrations[self._index.recordings[row, CALIBRATION], 3:])
        if not np.array_equal(turn, np.eye(3)):
            points[:, :3] = points[:, :3] @ turn.T.astype(np.float32)
        return LidarScan(points, LINES)

    def _camera(self, row: int, world_SE3_agent: Float64) -> CameraView:
        calibration, camera = self._index.recordings[row, [CALIBRATION, CAMERA]]
        agent_SE3_camera = relative_SE3(world_SE3_agent, self._ego_pose(row) @ self._mounting(row))
        intrinsic = self._index.intrinsics[calibration].reshape(3, 3)
        return CameraView(self._index.cameras[camera], read_image(self._path(row)), intrinsic, agent_SE3_camera)

    def _objects(self, index: int, agent_id: str, pose: Float64, choice: SensorChoice = WHOLE_SWEEP) -> ObjectLabels:
        """Return the labelled objects around an agent, without the vehicle that carries it."""
        scenario, number = self._scenes[index]
        rows = self._index.labels_of(self._first[scenario.name] + number)
        boxes, labels = self._index.boxes[rows], self._index.labels[rows]
        near = np.hypot(*(boxes[:, CENTRE] - pose[:3, 3])[:, :2].T) <= LIDAR_RANGE_M
        boxes, labels = boxes[near], labels[near]
        types = [self._types[category] for category in labels[:, CATEGORY].tolist()]
        sizes_m = boxes[:, SIZE_WLH][:, [1, 0, 2]]
        poses = quaternions_to_SE3(boxes[:, CENTRE], boxes[:, TURN])
        objects = posed_objects(labels[:, INSTANCE], types, poses, sizes_m, self.classes)
        if _agent_number(agent_id) != ROADSIDE_NUMBER:
            objects = without_vehicle_at(objects, pose)
        return objects if choice.labels == "lidar" else objects_within(objects, pose, SIGHT_RANGE_M)


def _chosen_scenes(tables: Path, index: TableIndex, split: str) -> tuple[str, BoolMask]:
    """Return the name of a split, and which recordings are in it; NoSplitError if there are none."""
    splits = [_split_of(number) for number in index.numbers]
    name = find_split(split, set(splits))
    if name is None:
        there = ", ".join(f"{splits.count(each)} of {each}" for each in sorted(set(splits))) or "none"
        raise NoSplitError(tables, f"no recording of split {split!r}; by the authors' lists there are {there}")
    return name, np.array([each == name for each in splits], bool)


def _split_of(number: int) -> str:
    return "validate" if number in VALIDATE else "test" if number in TEST else "train"


def _scenarios(index: TableIndex) -> list[Scenario]:
    """Return the recordings with a sweep, and for each agent the samples with a sweep of its own."""
    sweeps = index.recordings[index.recordings[:, CAMERA] == LIDAR]
    scenarios: list[Scenario] = []
    for scene, name in enumerate(index.scenes):
        samples = index.samples_of(scene)
        first, last = np.searchsorted(sweeps[:, SAMPLE], [samples.start, samples.stop])
        stamps: dict[str, dict[int, str]] = {}
        for sample, agent in sweeps[first:last, [SAMPLE, AGENT]].tolist():
            number = sample - samples.start
            stamps.setdefault(_agent_id(agent), {})[number] = f"{number:06d}"
        if stamps:
            scenarios.append(Scenario(name, tuple(agent_order(list(stamps))), stamps))
    return scenarios


def _agent_id(number: int) -> str:
    return f"{ROADSIDE_PREFIX}{number}" if number == ROADSIDE_NUMBER else str(number)


def _agent_number(agent_id: str) -> int:
    return int(agent_id.removeprefix(ROADSIDE_PREFIX))
