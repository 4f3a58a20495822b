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

from heal.datasets.cache_file import Entry
from heal.types import BoolMask, Float64, Int64

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

    def entry(self) -> Entry:
        """Return the index as an entry of a cache."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        texts = {name: value for name, value in values.items() if isinstance(value, tuple)}
        return Entry(texts, tuple(value for name, value in values.items() if name not in texts))

    @staticmethod
    def of_entry(entry: Entry) -> TableIndex:
        """Return the index of an entry; an error of a sequence or of a type for an entry of something else."""
        names, cameras, categories = (tuple(map(str, entry.values[name])) for name in ("scenes", "cameras", "categories"))
        dropped = tuple((str(table), str(cause)) for table, cause in entry.values["dropped"])
        return TableIndex(names, cameras, categories, dropped, *entry.arrays)


def scene_number(file: str) -> int | None:
    """Return 5 for a file such as "sweeps/LIDAR_TOP_id_1/scene_5_000006.pcd.bin"; None for a name of another form."""
    parts = PurePosixPath(file).name.split("_")
    return int(parts[1]) if len(parts) > 2 and parts[0] == "scene" and parts[1].isdecimal() else None
