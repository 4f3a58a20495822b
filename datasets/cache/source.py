"""A data set whose sweeps, images, poses and labels are kept on disk in a form that is read several times as fast.

Sweeps, poses and labels take no decoding. Images are packed without loss, see `heal.datasets.cache.pixels`. An agent's frame, its
images and its depth images are entries of their own, so that choices of sensors share them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from heal.datasets.cache.cameras import Views, depth_codec, view_codec
from heal.datasets.cache.entry_file import Entry, stamps_of
from heal.datasets.cache.kept import EntryCodec, Value, require_kinds
from heal.datasets.dataset import Dataset, Origin
from heal.detection.classes import MOST_CLASSES, classes_key
from heal.types import AgentFrame, Int64, LidarScan, ObjectLabels, SceneOutline, SensorChoice

_CLASSES = "classes"


class CachedSource:
    """A data set with a cache, which fills as scenes are read and gives the same scenes to the last bit.

    An entry is written again when a file behind it has another size or time of change, or when the entry is damaged. Any number of
    processes and several data sets may share a cache.

    Attributes:
        source: the data set.
        folder: the folder of the entries.
        packed: whether images are written compressed; what is read may be either.
        summary: the data set's summary.
        choice: the data set's default choice of sensor data.
        classes: the classes of the data set's objects.
    """

    def __init__(self, source: Dataset, folder: Path, *, packed: bool = True) -> None:
        """Wrap a data set; nothing is read or written yet."""
        self.source, self.folder, self.packed = source, folder.absolute(), packed
        self.summary, self.choice, self.classes = source.summary, source.choice, source.classes

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.source)

    @property
    def scenario_agents(self) -> dict[str, tuple[str, ...]]:
        """The ids of all agents of every scenario."""
        return self.source.scenario_agents

    @property
    def beams(self) -> tuple[int, ...]:
        """The laser lines of the data set's clouds."""
        return self.source.beams

    def listed(self, index: int) -> SceneOutline:
        """Return the outline of scene `index` as far as the lists of the data set tell it."""
        return self.source.listed(index)

    def frame_origin(self, index: int, agent_id: str, choice: SensorChoice) -> Origin:
        """Return the data set's files behind `agent_frame`."""
        return self.source.frame_origin(index, agent_id, choice)

    def scene_origin(self, index: int) -> Origin:
        """Return the data set's files behind `outline` and `scene_objects`."""
        return self.source.scene_origin(index)

    def outline(self, index: int) -> SceneOutline:
        """Return the outline of scene `index`."""
        return self._fetch(_OUTLINE, self.source.scene_origin(index), lambda: self.source.outline(index))

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """Read an agent's frame.

        Raises:
            UnknownAgentError: the agent is not in the scene.
            DatasetError: a file cannot be used.
        """
        choice = choice or self.choice
        without = replace(choice, cameras=False, depth=False)
        frame = self._part(_FRAME, index, agent_id, without, without, lambda frame: frame)
        return replace(frame, cameras=self._views(index, agent_id, choice)) if choice.cameras else frame

    def scene_objects(self, index: int) -> ObjectLabels:
        """Read the labels of scene `index` as a whole."""
        return self._fetch(_OBJECTS, self.source.scene_origin(index), lambda: self.source.scene_objects(index))

    def _views(self, index: int, agent_id: str, choice: SensorChoice) -> Views:
        """Return an agent's camera views, kept under the name of one choice for all, but read with the labels of the given one."""
        images = SensorChoice(lidar=False, cameras=True)
        read = replace(images, labels=choice.labels)
        codec, depth = view_codec(packed=self.packed), depth_codec(packed=self.packed)
        views = self._part(codec, index, agent_id, images, read, lambda frame: frame.cameras)
        if not choice.depth:
            return views
        both, read = replace(images, depth=True), replace(read, depth=True)
        depths = self._part(depth, index, agent_id, both, read, lambda frame: tuple(view.depth_m for view in frame.cameras))
        try:
            return tuple(replace(view, depth_m=depth_m) for view, depth_m in zip(views, depths, strict=True))
        except ValueError:  # of two whole entries, one was not written by this program
            return self.source.agent_frame(index, agent_id, read).cameras

    def _part(
        self,
        kind: EntryCodec[Value],
        index: int,
        agent_id: str,
        named: SensorChoice,
        read: SensorChoice,
        part_of: Callable[[AgentFrame], Value],
    ) -> Value:
        """Return a part of an agent's frame: what is kept under the name of one choice, or that of the frame read with another."""
        origin = self.source.frame_origin(index, agent_id, named)
        chosen = Origin(f"{origin.name} {asdict(named)}", origin.files)
        return self._fetch(kind, chosen, lambda: part_of(self.source.agent_frame(index, agent_id, read)))

    def _fetch(self, kind: EntryCodec[Value], origin: Origin, read: Callable[[], Value]) -> Value:
        """Return the cached value of an origin; without an entry, read the value and write an entry."""
        try:
            # Before reading: if a file changes meanwhile, the stamps are outdated and the entry is soon written again.
            stamps = stamps_of(origin.files)
        except OSError:
            return read()
        classes = classes_key(self.classes) if kind in _LABELLED else ()
        key = "\n".join([origin.name, *classes, *(str(file.absolute()) for file in origin.files)])
        return kind.kept(self.folder, key, stamps, read)


def _pack_outline(outline: SceneOutline) -> Entry:
    values = {
        "scene_id": outline.scene_id,
        "timestamp_ns": outline.timestamp_ns,
        "ego_id": outline.ego_id,
        "agent_ids": outline.agent_ids,
        "labelled_as_whole": outline.labelled_as_whole,
        "roadside_ego": outline.roadside_ego,
    }
    return Entry(values, (outline.world_SE3_ego,))


def _unpack_outline(entry: Entry) -> SceneOutline:
    values = dict(entry.values)
    flags = {"labelled_as_whole": bool, "roadside_ego": bool}
    require_kinds(values, scene_id=str, timestamp_ns=int, ego_id=str, agent_ids=list, **flags)
    if not all(isinstance(agent_id, str) for agent_id in values["agent_ids"]):
        raise TypeError(f"agent_ids: expected text, got {values['agent_ids']}")
    [pose] = _arrays(entry, np.float64)
    return SceneOutline(**{**values, "agent_ids": tuple(values["agent_ids"])}, world_SE3_ego=pose)


def _pack_frame(frame: AgentFrame) -> Entry:
    values = {"agent_id": frame.agent_id, "kind": frame.kind, "timestamp_ns": frame.timestamp_ns, **_classes_of(frame.objects)}
    arrays = (frame.world_SE3_agent, frame.world_SE3_agent_measured, frame.objects.ids, frame.objects.world_corners)
    if frame.lidar is None:
        return Entry(values, arrays)
    return Entry({**values, "beams": frame.lidar.beams}, (*arrays, frame.lidar.points))


def _unpack_frame(entry: Entry) -> AgentFrame:
    values = dict(entry.values)
    beams, classes = values.pop("beams", None), _classes_in(values.pop(_CLASSES, []))
    require_kinds(values, agent_id=str, kind=str, timestamp_ns=int)
    if type(beams) not in (int, type(None)):
        raise TypeError(f"beams: expected a whole number or none, got {beams}")
    dtypes: list[type[np.generic]] = [np.float64, np.float64, np.int64, np.float64, np.float32]
    pose, measured, ids, corners, *points = _arrays(entry, *dtypes[: max(len(entry.arrays), 4)])
    return AgentFrame(
        lidar=LidarScan(points[0], beams) if points else None,
        world_SE3_agent=pose,
        world_SE3_agent_measured=measured,
        objects=ObjectLabels(ids, corners, classes),
        **values,
    )


def _pack_objects(objects: ObjectLabels) -> Entry:
    return Entry(_classes_of(objects), (objects.ids, objects.world_corners))


def _unpack_objects(entry: Entry) -> ObjectLabels:
    ids, corners = _arrays(entry, np.int64, np.float64)
    return ObjectLabels(ids, corners, _classes_in(entry.values.get(_CLASSES, [])))


def _classes_of(objects: ObjectLabels) -> dict[str, list[int]]:
    """Return the classes of objects as a value of an entry; nothing where all are of the first class."""
    return {_CLASSES: objects.classes.tolist()} if objects.classes.any() else {}


def _classes_in(value: Any) -> Int64:
    """Return the classes that `_classes_of` has listed; TypeError for something else."""
    if not isinstance(value, list) or not all(type(number) is int and 0 <= number < MOST_CLASSES for number in value):
        raise TypeError(f"expected a list of numbers of classes, got {value}")
    return np.array(value, np.int64)


def _arrays(entry: Entry, *dtypes: type[np.generic]) -> tuple[npt.NDArray[Any], ...]:
    """Return the arrays of an entry; TypeError or ValueError unless they are as many, of these types and finite."""
    if [array.dtype for array in entry.arrays] != [np.dtype(dtype) for dtype in dtypes]:
        raise TypeError(f"expected arrays of {dtypes}, got {[array.dtype for array in entry.arrays]}")
    if not all(np.isfinite(array).all() for array in entry.arrays):
        raise ValueError("an array is not finite")
    return entry.arrays


_OUTLINE = EntryCodec("scene", _pack_outline, _unpack_outline)
_FRAME = EntryCodec("frame", _pack_frame, _unpack_frame)
_OBJECTS = EntryCodec("objects", _pack_objects, _unpack_objects)
_LABELLED = (_FRAME, _OBJECTS)  # what depends on the classes of the data set's objects
