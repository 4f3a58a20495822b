"""OPV2V, and data sets in its layout (V2XSet, OPV2V-H, the built-in town, V2V4Real and others), as a source of scenes.

    ROOT/train|validate|test/<scenario>/<agent>/<stamp>.yaml, .pcd, _camera0.png .. _camera3.png
    ROOT_Hetero/<the same>/<stamp>_16.pcd, _32.pcd, _depth0.png .. _depth3.png
    ROOT/additional/<the same>/<stamp>_bev_visibility.png   (or beside the metadata)

Opening lists folders, and looks through the labels for files without labels and for objects that do not count. An agent whose
number is negative is a roadside unit (V2XSet). A `Dialect` says what a data set does in another way than OPV2V.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from heal.datasets.dataset import DatasetError, DatasetSummary, OnDamage, Origin, Skipped, UnknownAgentError, damage_error
from heal.datasets.files import IMAGE_ENDINGS, LIDAR_ONLY, errors_naming, find_file, read_depth, read_grey, read_image
from heal.datasets.lidar import CLOUD_ENDINGS, LidarReader, sample_clouds
from heal.datasets.opv2v.dialect import AS_OPV2V, FRAME_NS, Rules
from heal.datasets.opv2v.index import (
    VISIBILITY_SUFFIX,
    Scenario,
    find_split_folder,
    in_collaboration,
    list_scenarios,
    unknown_ego,
    with_ego,
)
from heal.datasets.opv2v.kept_lists import KeptLists
from heal.datasets.opv2v.label_check import LabelCheck, check_labels
from heal.datasets.opv2v.metadata import CameraCalibration, FrameMetadata, metadata_path, read_metadata
from heal.datasets.split_names import SYNONYMS
from heal.detection.classes import classes_key
from heal.detection.label_filters import objects_within, visible_objects
from heal.types import (
    BEAMS,
    AgentFrame,
    AgentKind,
    CameraView,
    LidarScan,
    ObjectLabels,
    SceneOutline,
    Sensor,
    SensorChoice,
)

USUAL_PLACES = (("validate", "val"), ("validate", "validation"))  # folder and name of a split that mean the same to everybody
FULL_BEAMS = BEAMS[-1]
NO_LABELS = "no labels: it has no entry 'vehicles'"
# In a data set without visibility maps, such as V2XSet, an agent's cameras see the objects within this range, in the agent's frame.
SIGHT_RANGE_M = (-45.0, -45.0, -3.0, 45.0, 45.0, 1.0)


@dataclass(frozen=True)
class _FrameLocation:
    """Scenario, agent and stamp of one agent's frame; the names of its files follow from them."""

    scenario: Scenario
    agent_id: str
    number: int

    @property
    def stamp(self) -> str:
        """The frame's number as the names of its files spell it."""
        return self.scenario.stamps[self.agent_id][self.number]


class Opv2vSource:
    """Scenes of one split of a data set in OPV2V's layout.

    Attributes:
        root: the folder that holds the splits.
        split: the name of the split's folder.
        choice: the sensor data that `agent_frame` reads without a choice of the caller's.
        hetero_root: the folder with depth images and thinned clouds, which may be missing.
        scenarios: the scenarios, each with its ego first.
        rules: how the data set is read.
        classes: the classes of its objects.
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
        on_damage: OnDamage = "stop",
        intensity_scale: float | None = None,
        rules: Rules = AS_OPV2V,
        cache: Path | None = None,
    ) -> None:
        """Open a split: list its folders and look through its labels, or take both from the cache.

        Args:
            root: the folder that holds train, validate and test.
            split: "train", "validate" (or "val") or "test".
            sensors: the sensor data that `agent_frame` reads without a choice of the caller's; depth includes the images.
            hetero_root: the folder with depth images and thinned clouds; by default ROOT_Hetero, or OPV2V_Hetero beside `root`.
            beams: laser lines of the clouds that `agent_frame` reads without a choice: 64, 32 or 16.
            ego_id: the ego. By default the first agent in the order of the folder names as strings, vehicles before roadside units.
            max_agents: the largest number of agents, the ego included.
            on_damage: stop where an agent has no labels in a scene, or leave the scene out. A split without any labels is kept.
            intensity_scale: the value that stands for the intensity 1; by default the data set's, or judged by some sweeps.
            rules: how the data set is read: its dialect, the collaboration, the ground truth and the classes of the objects.
            cache: a folder that keeps the lists of the split and the cameras of its frames; it is made if needed.

        Raises:
            DatasetError: the split is missing or has no frame, the ego is unknown, or `hetero_root` or labels are missing.
        """
        self.root, self.rules, self.classes = root, rules, rules.classes
        self._folder_of_split, self.split = find_split_folder(root, split)
        self.choice, self.hetero_root = SensorChoice.of(sensors, beams), hetero_root or _default_hetero_root(root)
        self._lists = KeptLists.of(cache, self._folder_of_split, rules.dialect.name)
        found = self._find_scenes(ego_id, max_agents, on_damage)
        self._sweeps = self._reader(intensity_scale)
        self.summary = self._summary(*found, self._place_notes(split))

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self._scenes)

    def outline(self, index: int) -> SceneOutline:
        """Return the outline of scene `index`, the ego first."""
        scenario, number = self._scenes[index]
        ego = _FrameLocation(scenario, scenario.ego_id, number)
        metadata, listed = self._metadata(ego), self.listed(index)
        return replace(listed, world_SE3_ego=metadata.world_SE3_lidar, timestamp_ns=metadata.time_or(listed.timestamp_ns))

    def listed(self, index: int) -> SceneOutline:
        """Return the outline of scene `index`, the identity as the pose, the time that the stamp tells: no metadata is read."""
        scenario, number = self._scenes[index]
        scene_id, ids = f"{scenario.name}/{scenario.stamps[scenario.ego_id][number]}", scenario.agents_at(number)
        time_ns, by_roadside = self._time_ns(scenario, number), self.rules.roadside_ego
        return SceneOutline(scene_id, time_ns, scenario.ego_id, ids, np.eye(4), roadside_ego=by_roadside)

    @property
    def scenario_agents(self) -> dict[str, tuple[str, ...]]:
        """The ids of all agents of every scenario, agents beyond the limit included."""
        return {scenario.name: (*scenario.agent_ids, *scenario.unused) for scenario in self.scenarios}

    @property
    def beams(self) -> tuple[int, ...]:
        """64, and the laser lines of the thinned clouds that lie in `hetero_root` for the ego of the first scene."""
        ego = self._locations(0)[0]
        folder = self._folder_in(self.hetero_root, ego)
        thinned = (lines for lines in BEAMS[:-1] if find_file(folder / f"{ego.stamp}_{lines}.pcd", CLOUD_ENDINGS).exists())
        return (*thinned, FULL_BEAMS)

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """Read an agent's frame.

        Raises:
            UnknownAgentError: the agent is not in the scene.
            DatasetError: a file cannot be used.
        """
        choice = choice or self.choice
        location = self._location(index, agent_id)
        metadata = self._metadata(location)
        kind: AgentKind = "roadside" if self.rules.dialect.is_roadside(agent_id) or metadata.roadside else "vehicle"
        return AgentFrame(
            agent_id=agent_id,
            kind=kind,
            timestamp_ns=metadata.time_or(self._time_ns(location.scenario, location.number)),
            world_SE3_agent=metadata.world_SE3_lidar,
            world_SE3_agent_measured=metadata.world_SE3_lidar,
            lidar=self._lidar(location, choice.beams) if choice.lidar else None,
            cameras=tuple(self._camera(location, camera, choice.depth) for camera in metadata.cameras) if choice.cameras else (),
            objects=metadata.objects if choice.labels == "lidar" else self._visible_labels(location, metadata),
        )

    def scene_objects(self, index: int) -> ObjectLabels:
        """Join or merge the labels of all agents of scene `index`; only the metadata is read."""
        frames = [self._metadata(location) for location in self._locations(index)]
        parts = [frame.objects for frame in frames]
        if self.rules.ground_truth == "joint":
            return ObjectLabels.union(parts)
        from heal.detection.ground_truth import merge_by_iou  # needs torch, which reading does not

        return merge_by_iou(parts, frames[0].world_SE3_lidar)

    def frame_origin(self, index: int, agent_id: str, choice: SensorChoice) -> Origin:
        """Return the files behind `agent_frame`; UnknownAgentError if the agent is not in the scene."""
        location = self._location(index, agent_id)
        files = [metadata_path(self._stem(location))]
        for camera in self._camera_names(location) if choice.cameras else ():
            files += [self._image_path(location, camera), *([self._depth_path(location, camera)] if choice.depth else [])]
        if choice.lidar:
            files.append(self._cloud_path(location, choice.beams))
        if choice.labels == "camera" and self._has_maps:
            files.append(self._map_path(location))
        return Origin(f"{agent_id} {self._sweeps.key}" if choice.lidar else agent_id, tuple(files))

    def scene_origin(self, index: int) -> Origin:
        """Return the files behind `outline` and `scene_objects`."""
        locations = self._locations(index)
        files = tuple(metadata_path(self._stem(location)) for location in locations)
        rules = [rule for rule in (self.rules.collaboration, self.rules.ground_truth) if rule not in (None, "joint")]
        return Origin(" ".join(map(str, [*rules, *(location.agent_id for location in locations)])), files)

    def _reader(self, intensity_scale: float | None) -> LidarReader:
        """Return the reader of the sweeps, whose scale is the given one, the data set's, or judged by some sweeps of all splits."""
        dialect = self.rules.dialect
        scale = dialect.intensity_top if intensity_scale is None else intensity_scale
        return LidarReader(sample_clouds(_agent_folders(self.root, self._folder_of_split)), scale, rings=dialect.rings)

    def _find_scenes(self, ego_id: str | None, max_agents: int, on_damage: OnDamage) -> tuple[Skipped, int, tuple[str, ...]]:
        """List the scenes; return what is left out, the number of those without labels, and notes on the labels."""
        if self.choice.depth or (self.choice.lidar and self.choice.beams != FULL_BEAMS):
            self._require_hetero_root()
        left_out = self._list_scenes(ego_id, max_agents)
        check = self._lists.check((ego_id, max_agents, self.rules.collaboration, *classes_key(self.classes)), self._label_check)
        return left_out, *self._leave_out_unlabelled(check, left_out, on_damage)

    def _list_scenes(self, ego_id: str | None, max_agents: int) -> Skipped:
        """List the scenarios and scenes; return what is left out, DatasetError if no scene is left."""
        is_roadside, collaboration = self.rules.dialect.is_roadside, self.rules.collaboration
        found, skipped = self._lists.listing(lambda: list_scenarios(self._folder_of_split, is_roadside))
        self._has_maps = (self.root / "additional" / self.split).is_dir() or any(scenario.has_maps for scenario in found)
        usable, without_kind = found, Skipped()
        if collaboration:
            usable, without_kind = in_collaboration(found, collaboration, is_roadside)
        self.scenarios, left_out = with_ego(usable, ego_id, max_agents)
        self._scenes = [(scenario, number) for scenario in self.scenarios for number in scenario.frame_numbers]
        if not self._scenes:
            expected = "no frame here; expected <scenario>/<agent>/<stamp>.yaml"
            without_ego = without_kind[0][1] if without_kind and not usable else unknown_ego(usable, ego_id)
            raise DatasetError(self._folder_of_split, without_ego or expected)
        return skipped + without_kind + left_out

    def _summary(
        self, left_out: Skipped, damaged: int, label_notes: tuple[str, ...], place_notes: tuple[str, ...]
    ) -> DatasetSummary:
        used = {scenario.name: len(scenario.agent_ids) for scenario, _ in self._scenes}
        scenes, agents = len(self._scenes), sum(used.values())
        dialect, sweep_notes = self.rules.dialect, self._sweeps.notes if self.choice.lidar else ()
        notes = (*place_notes, *label_notes, *sweep_notes)
        labels, rule = ("each agent's own labels", self.rules.ground_truth) if dialect.own_ids else ("", "")
        counts = len(used), scenes, agents
        return DatasetSummary(dialect.name, self.root, self.split, *counts, tuple(left_out), labels, notes, damaged, rule)

    def _label_check(self) -> LabelCheck:
        """Look through the labels of all scenes."""
        stems = (self._stem(location) for index in range(len(self._scenes)) for location in self._locations(index))
        return check_labels(stems, self.rules.dialect.parse, self.classes)

    def _leave_out_unlabelled(self, check: LabelCheck, skipped: Skipped, on_damage: OnDamage) -> tuple[int, tuple[str, ...]]:
        """Leave out the scenes without labels, appended to `skipped`, or stop; return their number, and notes on the labels."""
        if not check.unlabelled:
            return 0, check.notes
        scenes = range(len(self._scenes))
        paths = [{metadata_path(self._stem(location)) for location in self._locations(index)} for index in scenes]
        unlabelled = sorted(check.unlabelled & set().union(*paths))
        labelled = [check.unlabelled.isdisjoint(each) for each in paths]
        if not any(labelled):
            note = "no scene has labels (no entry 'vehicles' in the metadata), so nothing can be learnt or scored"
            return 0, (*check.notes, note)
        if unlabelled and on_damage == "stop":
            raise damage_error([DatasetError(path, NO_LABELS) for path in unlabelled])
        self._scenes = [scene for scene, whole in zip(self._scenes, labelled, strict=True) if whole]
        for path in unlabelled:
            part = path.relative_to(self._folder_of_split).as_posix()
            skipped.append((part, f"{NO_LABELS}; its scene is left out"))
        return labelled.count(False), check.notes

    def _place_notes(self, split: str) -> tuple[str, ...]:
        """Return a line about the place of the split if it is not the usual one, and one about the collaboration."""
        place = self._folder_of_split.relative_to(self.root).as_posix()
        notes = () if place == split or (place, split) in USUAL_PLACES else (f"split {split}: read from the folder {place}",)
        collaboration = self.rules.collaboration
        return (*notes, f"collaboration {collaboration}") if collaboration else notes

    def _location(self, index: int, agent_id: str) -> _FrameLocation:
        scenario, number = self._scenes[index]
        if agent_id not in scenario.agents_at(number):
            known, stamp = ", ".join(scenario.agents_at(number)), scenario.stamps[scenario.ego_id][number]
            raise UnknownAgentError(self._folder_of_split / scenario.name, f"no agent {agent_id!r} at {stamp}, there are {known}")
        return _FrameLocation(scenario, agent_id, number)

    def _locations(self, index: int) -> list[_FrameLocation]:
        scenario, number = self._scenes[index]
        return [_FrameLocation(scenario, agent_id, number) for agent_id in scenario.agents_at(number)]

    def _stem(self, location: _FrameLocation) -> Path:
        return self._folder(location) / location.stamp

    def _metadata(self, location: _FrameLocation) -> FrameMetadata:
        return read_metadata(self._stem(location), self.rules.dialect.parse, self.classes)

    def _time_ns(self, scenario: Scenario, number: int) -> int:
        """Return the time of the frames with a number."""
        step_ns = self.rules.dialect.stamp_ns
        return number * FRAME_NS // scenario.number_step if step_ns is None else number * step_ns

    def _lidar(self, location: _FrameLocation, beams: int) -> LidarScan:
        lines = self.rules.dialect.lines if beams == FULL_BEAMS else beams
        return LidarScan(self._sweeps.read(self._cloud_path(location, beams)), lines)

    def _cloud_path(self, location: _FrameLocation, beams: int) -> Path:
        if beams == FULL_BEAMS:
            return find_file(self._folder(location) / f"{location.stamp}.pcd", CLOUD_ENDINGS)
        return find_file(self._folder_in(self._require_hetero_root(), location) / f"{location.stamp}_{beams}.pcd", CLOUD_ENDINGS)

    def _camera(self, location: _FrameLocation, calibration: CameraCalibration, with_depth: bool) -> CameraView:
        image = read_image(self._image_path(location, calibration.name))
        view = CameraView(calibration.name, image, calibration.intrinsic, calibration.agent_SE3_camera)
        if not with_depth:
            return view
        path = self._depth_path(location, calibration.name)
        depth_m = read_depth(path)
        with errors_naming(path):  # its size may differ from the image's
            return replace(view, depth_m=depth_m)

    def _camera_names(self, location: _FrameLocation) -> tuple[str, ...]:
        """Return the names of the cameras of a frame; if a cache keeps them, the metadata is not read."""
        path = metadata_path(self._stem(location))
        return self._lists.camera_names(path, lambda: tuple(camera.name for camera in self._metadata(location).cameras))

    def _image_path(self, location: _FrameLocation, camera: str) -> Path:
        return find_file(self._folder(location) / f"{location.stamp}_{camera}.png", IMAGE_ENDINGS)

    def _depth_path(self, location: _FrameLocation, camera: str) -> Path:
        folder = self._folder_in(self._require_hetero_root(), location)
        return folder / f"{location.stamp}_{camera.replace('camera', 'depth')}.png"

    def _visible_labels(self, location: _FrameLocation, metadata: FrameMetadata) -> ObjectLabels:
        """Return the labelled objects that the agent's visibility map marks; in a data set without maps, the objects nearby."""
        if not self._has_maps:
            return objects_within(metadata.objects, metadata.world_SE3_lidar, SIGHT_RANGE_M)
        return visible_objects(metadata.objects, read_grey(self._map_path(location)), metadata.world_SE3_lidar)

    def _map_path(self, location: _FrameLocation) -> Path:
        path = self._folder_in(self.root / "additional", location) / f"{location.stamp}{VISIBILITY_SUFFIX}"
        return path if path.exists() else self._folder(location) / path.name

    def _folder(self, location: _FrameLocation) -> Path:
        return self._folder_of_split / location.scenario.name / location.agent_id

    def _folder_in(self, root: Path, location: _FrameLocation) -> Path:
        """Return the agent's folder in another tree of the same form."""
        return root / self.split / location.scenario.name / location.agent_id

    def _require_hetero_root(self) -> Path:
        """Return the folder with depth images and thinned clouds; DatasetError if it is missing."""
        if not self.hetero_root.is_dir():
            raise DatasetError(
                self.hetero_root,
                "no such folder; depth images and clouds of 16 or 32 lines lie there: unpack OPV2V-H there, or write them with "
                "`heal generate --sensors all`",
            )
        return self.hetero_root


def _default_hetero_root(root: Path) -> Path:
    beside = root.with_name(f"{root.name}_Hetero")
    return beside if beside.is_dir() else root.with_name("OPV2V_Hetero")


def _agent_folders(root: Path, split: Path) -> list[Path]:
    """Return the agents' folders of all splits, those of the given split first; no other folder of the root is listed."""
    names = {name for names in SYNONYMS for name in names}
    splits = [split, *sorted(path for path in root.iterdir() if path.name.lower() in names and path != split)]
    scenarios = [path for folder in splits if folder.is_dir() for path in sorted(folder.iterdir()) if path.is_dir()]
    return [path for scenario in scenarios for path in sorted(scenario.iterdir()) if path.is_dir()]
