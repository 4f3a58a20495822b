"""The index of V2X-Sim's tables: every sweep, image and label of all recordings as a few arrays.

Building it reads all tables once, record by record; an index that is kept as an entry of a cache opens at once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from heal.datasets.cache.entry_file import Entry
from heal.datasets.cache.kept import EntryCodec
from heal.types import BoolMask, Float64, Int64

MOST = 1e18  # of a time, a place or a size; times are microseconds
LIDAR = -1  # in place of the number of a camera
# Columns of `TableIndex.recordings`. AGENT is the number in the sensor's name. LATE is 0 for the sample's own sweep or image, and 1
# for one between samples.
SAMPLE, AGENT, CAMERA, LATE, CALIBRATION, POSE = range(6)
# Columns of `TableIndex.labels`.
LABEL_SAMPLE, CATEGORY, INSTANCE = range(3)
# Columns of `TableIndex.boxes`: centre and size (width, length, height) in metres, and a quaternion w, x, y, z.
CENTRE, SIZE_WLH, TURN = slice(0, 3), slice(3, 6), slice(6, 10)


@dataclass(frozen=True)
class TableIndex:
    """What is recorded and labelled; samples are sorted by recording and time, recordings and labels by sample.

    Attributes:
        scenes: names of the recordings.
        cameras: names of the cameras, such as "CAM_FRONT".
        categories: names of the labels' categories, as in the table.
        dropped: pairs of a table's name and what cannot be used in it.
        sample_scene: (S,) the recording of each sample.
        sample_time: (S,) the time of each sample, as in the table.
        recordings: (R, 6) the sweeps and images, see the columns `SAMPLE` to `POSE`.
        files: (R,) paths relative to the data set's folder, as UTF-8 bytes.
        calibrations: (C, 7) mounting of a sensor on its agent: translation in metres, quaternion w, x, y, z.
        intrinsics: (C, 9) camera matrices in pixels, row by row; NaN for a LiDAR.
        poses: (P, 7) poses of agents in the world, as the calibrations.
        labels: (A, 3) see `LABEL_SAMPLE` to `INSTANCE`.
        boxes: (A, 10) see `CENTRE` to `TURN`.
    """

    scenes: tuple[str, ...]
    cameras: tuple[str, ...]
    categories: tuple[str, ...]
    dropped: tuple[tuple[str, str], ...]
    sample_scene: Int64
    sample_time: Float64
    recordings: Int64
    files: npt.NDArray[np.bytes_]
    calibrations: Float64
    intrinsics: Float64
    poses: Float64
    labels: Int64
    boxes: Float64

    def file(self, row: int) -> str:
        """Return the path of a recording's file, relative to the data set's folder."""
        return bytes(self.files[row]).decode()

    def samples_of(self, scene: int) -> range:
        """Return the samples of a recording in order of time."""
        first, last = np.searchsorted(self.sample_scene, [scene, scene + 1])
        return range(int(first), int(last))

    def recordings_of(self, sample: int, agent: int) -> range:
        """Return the recordings of an agent in a sample: first its sweep, then its images in the order of the cameras."""
        begin, end = self._recordings_begin[sample : sample + 2]
        first, last = np.searchsorted(self.recordings[begin:end, AGENT], [agent, agent + 1])
        return range(int(begin + first), int(begin + last))

    def labels_of(self, sample: int) -> slice:
        """Return the labels of a sample."""
        first, last = self._labels_begin[sample : sample + 2]
        return slice(int(first), int(last))

    @cached_property
    def _recordings_begin(self) -> Int64:
        """The first recording of each sample, (S + 1,)."""
        return np.searchsorted(self.recordings[:, SAMPLE], np.arange(len(self.sample_scene) + 1)).astype(np.int64)

    @cached_property
    def _labels_begin(self) -> Int64:
        """The first label of each sample, (S + 1,)."""
        return np.searchsorted(self.labels[:, LABEL_SAMPLE], np.arange(len(self.sample_scene) + 1)).astype(np.int64)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The number of each recording, by which splits name it: that of its first sweep's file, else its place in the table."""
        lidar = self.recordings[:, CAMERA] == LIDAR
        rows, of_scene = np.flatnonzero(lidar), self.sample_scene[self.recordings[lidar, SAMPLE]]
        first = dict(zip(of_scene[::-1].tolist(), rows[::-1].tolist(), strict=True))
        named = {scene: scene_number(self.file(row)) for scene, row in first.items()}
        return tuple(scene if (number := named.get(scene)) is None else number for scene in range(len(self.scenes)))

    def of_scenes(self, keep: BoolMask) -> TableIndex:
        """Return the index of some recordings, which keep their places: (number of scenes,) bool."""
        chosen = keep[self.sample_scene]
        moved = np.cumsum(chosen) - 1
        recordings, labels = (rows[chosen[rows[:, 0]]] for rows in (self.recordings, self.labels))
        for rows in (recordings, labels):
            rows[:, 0] = moved[rows[:, 0]]
        used, recordings[:, POSE] = np.unique(recordings[:, POSE], return_inverse=True)
        return replace(
            self,
            sample_scene=self.sample_scene[chosen],
            sample_time=self.sample_time[chosen],
            recordings=recordings,
            files=self.files[chosen[self.recordings[:, SAMPLE]]],
            poses=self.poses[used],
            labels=labels,
            boxes=self.boxes[chosen[self.labels[:, LABEL_SAMPLE]]],
        )


def _pack(index: TableIndex) -> Entry:
    values: dict[str, Any] = {field.name: getattr(index, field.name) for field in fields(index)}
    texts = {name: value for name, value in values.items() if isinstance(value, tuple)}
    return Entry(texts, tuple(value for name, value in values.items() if name not in texts))


def _unpack(entry: Entry) -> TableIndex:
    names, cameras, categories = (tuple(map(str, entry.values[name])) for name in ("scenes", "cameras", "categories"))
    dropped = tuple((str(table), str(cause)) for table, cause in entry.values["dropped"])
    index = TableIndex(names, cameras, categories, dropped, *entry.arrays)
    arrays = dict(zip(_ARRAYS, entry.arrays, strict=True))
    if any((array.dtype.kind, array.shape[1:]) != _ARRAYS[name] for name, array in arrays.items()):
        raise TypeError(f"expected arrays {_ARRAYS}, got {[(array.dtype, array.shape) for array in entry.arrays]}")
    samples = len(index.sample_scene)
    sizes = (index.sample_time, samples), (index.files, len(index.recordings)), (index.boxes, len(index.labels))
    if any(len(array) != size for array, size in sizes):
        raise ValueError("expected as many times as samples, files as recordings, and boxes as labels")
    if not all((np.abs(array) < MOST).all() for array in (index.sample_time, index.calibrations, index.poses, index.boxes)):
        raise ValueError(f"expected times, poses and boxes below {MOST:g}")
    # Slices are found by bisection.
    for rows in (index.sample_scene[:, None], index.recordings[:, : LATE + 1], index.labels[:, :1]):
        if not np.array_equal(np.lexsort(rows.T[::-1]), np.arange(len(rows))):
            raise ValueError("expected recordings and labels in the order of their samples")
    _require_places(index.sample_scene, len(names))
    _require_places(index.recordings[:, SAMPLE], samples)
    _require_places(index.recordings[:, CAMERA] - LIDAR, len(cameras) - LIDAR)
    _require_places(index.recordings[:, CALIBRATION], len(index.calibrations))
    _require_places(index.recordings[:, POSE], len(index.poses))
    _require_places(index.labels[:, LABEL_SAMPLE], samples)
    _require_places(index.labels[:, CATEGORY], len(categories))
    return index


def _require_places(places: Int64, count: int) -> None:
    """Raise ValueError unless places lie in a list of this length."""
    if len(places) and not (places.min() >= 0 and places.max() < count):
        raise ValueError(f"expected places below {count}, got {places.min()} to {places.max()}")


# The kind and the columns of each array of `TableIndex`, in their order.
_ARRAYS: dict[str, tuple[str, tuple[int, ...]]] = {
    "sample_scene": ("i", ()),
    "sample_time": ("f", ()),
    "recordings": ("i", (6,)),
    "files": ("S", ()),
    "calibrations": ("f", (7,)),
    "intrinsics": ("f", (9,)),
    "poses": ("f", (7,)),
    "labels": ("i", (3,)),
    "boxes": ("f", (10,)),
}
# How a cache keeps an index.
INDEX = EntryCodec("tables", _pack, _unpack)


def scene_number(file: str) -> int | None:
    """Return 5 for a file such as "sweeps/LIDAR_TOP_id_1/scene_5_000006.pcd.bin"; None for a name of another form."""
    parts = PurePosixPath(file).name.split("_")
    return int(parts[1]) if len(parts) > 2 and parts[0] == "scene" and parts[1].isdecimal() else None
