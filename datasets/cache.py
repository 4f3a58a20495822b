"""A data set whose sweeps, poses and labels are kept on disk in a form that takes no decoding.

Images are not: a frame with cameras goes by, as it comes. Decoded ones would take sixty times the room of a JPEG (6 MB for one of
DAIR-V2X-C), so that even a small data set would no longer fit into memory, and a disk gives them slower than a core decodes them.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, TypeVar

from heal.datasets.cache_file import Entry, read_entry, stamps_of, write_entry
from heal.datasets.dataset import Dataset, Origin
from heal.types import AgentFrame, LidarScan, ObjectLabels, SceneOutline, SensorChoice

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class _Kind(Generic[Kept]):
    """How something of one kind becomes an entry, and an entry becomes it again."""

    name: str
    pack: Callable[[Kept], Entry]
    unpack: Callable[[Entry], Kept]


class CachedSource:
    """The scenes of a data set, to the last bit, from a cache that fills as they are asked for.

    An entry is made anew when one of the files that it was made from has another size or time of change, or when the entry is
    damaged. Any number of processes may share a cache, and several data sets may.

    Attributes:
        source: the data set.
        folder: where the entries lie.
        summary: of the data set.
        choice: of the data set.
    """

    def __init__(self, source: Dataset, folder: Path) -> None:
        """Read and write nothing yet."""
        self.source, self.folder = source, folder.absolute()
        self.summary, self.choice = source.summary, source.choice

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self.source)

    @property
    def scenario_agents(self) -> dict[str, tuple[str, ...]]:
        """The data set's."""
        return self.source.scenario_agents

    def frame_origin(self, index: int, agent_id: str, choice: SensorChoice) -> Origin:
        """The data set's."""
        return self.source.frame_origin(index, agent_id, choice)

    def scene_origin(self, index: int) -> Origin:
        """The data set's."""
        return self.source.scene_origin(index)

    def outline(self, index: int) -> SceneOutline:
        """Who takes part."""
        return self._fetch(_OUTLINE, self.source.scene_origin(index), lambda: self.source.outline(index))

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """What an agent senses; UnknownAgentError if it takes no part, DatasetError for an unusable file."""
        choice = choice or self.choice
        if choice.cameras:
            return self.source.agent_frame(index, agent_id, choice)
        origin = self.source.frame_origin(index, agent_id, choice)
        wanted = Origin(f"{origin.name} {asdict(choice)}", origin.files)
        return self._fetch(_FRAME, wanted, lambda: self.source.agent_frame(index, agent_id, choice))

    def scene_objects(self, index: int) -> ObjectLabels:
        """Labels of the scene as a whole."""
        return self._fetch(_OBJECTS, self.source.scene_origin(index), lambda: self.source.scene_objects(index))

    def _fetch(self, kind: _Kind[Kept], origin: Origin, read: Callable[[], Kept]) -> Kept:
        """What is kept, or what `read` gives, which is kept from then on."""
        try:
            # Before reading: if a file changes meanwhile, the entry is stamped as older than it is and soon made anew.
            stamps = stamps_of(origin.files)
        except OSError:
            return read()
        path = self._path(kind.name, origin)
        entry = read_entry(path, stamps)
        if entry is not None:
            return kind.unpack(entry)
        value = read()
        try:
            write_entry(path, stamps, kind.pack(value))
        except OSError as error:
            warnings.warn(f"{self.folder}: nothing can be kept here, so everything is read anew: {error.strerror}", stacklevel=2)
        return value

    def _path(self, kind: str, origin: Origin) -> Path:
        """Where an entry lies, whether or not it is there; changed files lead to the same place, so that a cache does not grow."""
        key = "\n".join([kind, origin.name, *(str(file.absolute()) for file in origin.files)])
        digest = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
        return self.folder / digest[:2] / f"{digest[2:]}.{kind}"


def _pack_outline(outline: SceneOutline) -> Entry:
    values = {
        "scene_id": outline.scene_id,
        "timestamp_ns": outline.timestamp_ns,
        "ego_id": outline.ego_id,
        "agent_ids": outline.agent_ids,
    }
    return Entry(values, (outline.world_SE3_ego,))


def _unpack_outline(entry: Entry) -> SceneOutline:
    values = {**entry.values, "agent_ids": tuple(entry.values["agent_ids"])}
    return SceneOutline(**values, world_SE3_ego=entry.arrays[0])


def _pack_frame(frame: AgentFrame) -> Entry:
    values = {"agent_id": frame.agent_id, "kind": frame.kind, "timestamp_ns": frame.timestamp_ns}
    arrays = (frame.world_SE3_agent, frame.world_SE3_agent_measured, frame.objects.ids, frame.objects.world_corners)
    if frame.lidar is None:
        return Entry(values, arrays)
    return Entry({**values, "beams": frame.lidar.beams}, (*arrays, frame.lidar.points))


def _unpack_frame(entry: Entry) -> AgentFrame:
    values = dict(entry.values)
    pose, measured, ids, corners, *points = entry.arrays
    return AgentFrame(
        lidar=LidarScan(points[0], values.pop("beams")) if points else None,
        world_SE3_agent=pose,
        world_SE3_agent_measured=measured,
        objects=ObjectLabels(ids, corners),
        **values,
    )


def _pack_objects(objects: ObjectLabels) -> Entry:
    return Entry(arrays=(objects.ids, objects.world_corners))


def _unpack_objects(entry: Entry) -> ObjectLabels:
    ids, corners = entry.arrays
    return ObjectLabels(ids, corners)


_OUTLINE = _Kind("outline", _pack_outline, _unpack_outline)
_FRAME = _Kind("frame", _pack_frame, _unpack_frame)
_OBJECTS = _Kind("objects", _pack_objects, _unpack_objects)
