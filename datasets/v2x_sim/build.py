"""Build the index of V2X-Sim's tables; see `heal.datasets.v2x_sim.index`.

A record that cannot be used costs only itself: it is counted, and the first of each table is named.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from heal.datasets.cache.entry_file import stamps_of
from heal.datasets.dataset import DatasetError
from heal.datasets.notation import as_number, as_text, as_vector, short
from heal.datasets.v2x_sim.index import INDEX, LIDAR, POSE, TableIndex
from heal.datasets.v2x_sim.tables import TABLES, read_records, table_path
from heal.types import BoolMask, Float64, Int64

# Names of the sensors that are read. The data set has more: semantic LiDARs, cameras of depth, of classes, and from above.
CHANNEL = re.compile(r"(LIDAR_TOP|CAM_(?:FRONT|BACK|LEFT|RIGHT)(?:_(?:LEFT|RIGHT))?)_id_(\d{1,4})")

# The sensor of a calibration: its agent and its camera or `LIDAR`, and the place of the calibration; None for a sensor not read.
_Sensor = tuple[int, int, int] | None


def opened_index(folder: Path, cache: Path | None) -> TableIndex:
    """Return the index of the tables in a folder: from a cache if it is there, else from the tables; then it is kept in the cache.

    Raises:
        DatasetError: see `build_index`.
    """
    if cache is None:
        return build_index(folder)
    files = [table_path(folder, table) for table in TABLES]
    try:
        stamps = stamps_of(files)
    except OSError:
        return build_index(folder)  # names the table that is missing
    return INDEX.kept(cache, str(folder.absolute()), stamps, lambda: build_index(folder))


def build_index(folder: Path) -> TableIndex:
    """Read all tables in a folder.

    Raises:
        DatasetError: a table is missing or damaged, or names no LiDAR of an agent.
    """
    return _Builder(folder).build()


class _Builder:
    """Reads the tables one after another; each keeps what the next one needs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._dropped: dict[str, tuple[int, str]] = {}
        self._cameras: dict[str, int] = {}
        self._categories: list[str] = []

    def build(self) -> TableIndex:
        scenes, scene_of_sample, sample_time = self._samples()
        sensors, calibrations, intrinsics = self._calibrations()
        recordings, files, pose_places = self._recordings(scene_of_sample, sensors)
        poses = self._poses(pose_places)
        labels, boxes = self._labels(scene_of_sample)
        order, recordings = self._in_order(recordings, poses)
        by_sample = np.argsort(labels[:, 0], kind="stable")
        return TableIndex(
            scenes,
            tuple(self._cameras),
            tuple(self._categories),
            tuple((f"{table}.json", f"{count} records cannot be used; {cause}") for table, (count, cause) in self._dropped.items()),
            np.array([scene for _, scene in scene_of_sample.values()], np.int64),
            sample_time,
            recordings,
            np.array(files, np.bytes_)[order] if files else np.zeros(0, "S1"),
            calibrations,
            intrinsics,
            poses,
            labels[by_sample],
            boxes[by_sample],
        )

    def _each(self, table: str, take: Callable[[Mapping[str, Any]], None]) -> None:
        """Hand over every record of a table, and count those that cannot be used."""
        for record in read_records(table_path(self._folder, table)):
            self._use(table, record, take)

    def _use(self, table: str, record: Mapping[str, Any], take: Callable[[Mapping[str, Any]], None]) -> None:
        try:
            take(record)
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            cause = f"no entry or unknown token {error}" if isinstance(error, KeyError) else str(error)
            self._drop(table, f"the first, {short(record.get('token'))}: {cause}")

    def _drop(self, table: str, cause: str, count: int = 1) -> None:
        before, first = self._dropped.get(table, (0, cause))
        self._dropped[table] = before + count, first

    def _samples(self) -> tuple[tuple[str, ...], dict[str, tuple[int, int]], Float64]:
        """Return the names of the recordings, token -> place and recording of each sample in order, and the samples' times."""
        scenes: dict[str, str] = {}
        found: list[tuple[int, float, str]] = []
        self._each("scene", lambda record: scenes.update({record["token"]: as_text("name", record.get("name") or len(scenes))}))
        places = {token: place for place, token in enumerate(scenes)}
        self._each("sample", lambda r: found.append((places[r["scene_token"]], as_number("timestamp", r["timestamp"]), r["token"])))
        found.sort()
        return (
            tuple(scenes.values()),
            {token: (place, scene) for place, (scene, _, token) in enumerate(found)},
            np.array([time for _, time, _ in found], np.float64),
        )

    def _calibrations(self) -> tuple[dict[str, _Sensor], Float64, Float64]:
        """Return token of a calibration -> sensor, the mountings and the camera matrices."""
        channels: dict[str, str] = {}
        sensors: dict[str, _Sensor] = {}
        mountings, matrices = array("d"), array("d")

        def take(record: Mapping[str, Any]) -> None:
            channel = CHANNEL.fullmatch(channels[record["sensor_token"]])
            if channel is None:
                sensors[record["token"]] = None
                return
            is_lidar = channel[1] == "LIDAR_TOP"
            matrix = [np.nan] * 9 if is_lidar else as_vector("camera_intrinsic", record["camera_intrinsic"], 9).tolist()
            mountings.extend(_pose(record))
            matrices.extend(matrix)
            camera = LIDAR if is_lidar else self._cameras.setdefault(channel[1], len(self._cameras))
            sensors[record["token"]] = int(channel[2]), camera, len(matrices) // 9 - 1

        self._each("sensor", lambda record: channels.update({record["token"]: as_text("channel", record["channel"])}))
        self._each("calibrated_sensor", take)
        if not any(sensor and sensor[1] == LIDAR for sensor in sensors.values()):
            cause = "no calibration of a LiDAR of an agent, expected channels such as LIDAR_TOP_id_1"
            raise DatasetError(table_path(self._folder, "calibrated_sensor"), f"{cause}; there are {sorted(channels.values())[:8]}")
        return sensors, _rows(mountings, 7), _rows(matrices, 9)

    def _recordings(
        self, samples: Mapping[str, tuple[int, int]], sensors: Mapping[str, _Sensor]
    ) -> tuple[Int64, list[bytes], dict[str, int]]:
        """Return the rows of `TableIndex.recordings`, their files, and token -> place of the poses that they need."""
        keys, files, poses = array("q"), list[bytes](), dict[str, int]()

        def take(record: Mapping[str, Any]) -> None:
            sensor = sensors[record["calibrated_sensor_token"]]
            if sensor is not None:
                agent, camera, calibration = sensor
                file, sample = as_text("filename", record["filename"]).encode(), samples[record["sample_token"]][0]
                pose = poses.setdefault(record["ego_pose_token"], len(poses))
                keys.extend((sample, agent, camera, int(not record.get("is_key_frame", True)), calibration, pose))
                files.append(file)

        self._each("sample_data", take)
        return np.array(keys, np.int64).reshape(-1, 6), files, poses

    def _poses(self, places: Mapping[str, int]) -> Float64:
        """Return the poses that are needed; NaN for a pose that the table lacks."""
        poses = np.full((len(places), 7), np.nan)

        def take(record: Mapping[str, Any]) -> None:
            place = places.get(record["token"])
            if place is not None:
                poses[place] = _pose(record)

        self._each("ego_pose", take)
        return poses

    def _labels(self, samples: Mapping[str, tuple[int, int]]) -> tuple[Int64, Float64]:
        """Return the rows of `TableIndex.labels` and of `TableIndex.boxes`."""
        names: dict[str, str] = {}
        instances: dict[str, tuple[int, int]] = {}
        places: dict[str, int] = {}
        keys, boxes = array("q"), array("d")

        def take_instance(record: Mapping[str, Any]) -> None:
            category = places.setdefault(names[record["category_token"]], len(places))
            instances[record["token"]] = category, len(instances)

        def take(record: Mapping[str, Any]) -> None:
            sample, (category, instance) = samples[record["sample_token"]][0], instances[record["instance_token"]]
            pose = _pose(record)
            size = [float(number) for number in record["size"]]
            if len(size) != 3:
                raise ValueError(f"size: expected 3 numbers, got {len(size)}")
            boxes.extend((*pose[:3], *size, *pose[3:]))
            keys.extend((sample, category, instance))

        self._each("category", lambda record: names.update({record["token"]: as_text("name", record["name"])}))
        self._each("instance", take_instance)
        self._each("sample_annotation", take)
        self._categories = list(places)
        return np.array(keys, np.int64).reshape(-1, 3), _rows(boxes, 10)

    def _in_order(self, recordings: Int64, poses: Float64) -> tuple[Int64, Int64]:
        """Return which recordings are kept, in their order, and their rows: those with a pose, one for each sample and sensor."""
        finite: BoolMask = np.asarray(np.isfinite(poses).all(axis=1), bool)
        posed = finite[recordings[:, POSE]]
        if not posed.all():
            self._drop("sample_data", "their ego_pose_token is not in ego_pose.json", int((~posed).sum()))
        order = np.flatnonzero(posed)
        order = order[np.lexsort(recordings[order, 3::-1].T)]  # by sample, agent, camera, and the sample's own first
        rows = recordings[order]
        first = np.ones(len(rows), bool)
        first[1:] = (rows[1:, :3] != rows[:-1, :3]).any(axis=1)
        return order[first].astype(np.int64), rows[first]


def _pose(record: Mapping[str, Any]) -> tuple[float, ...]:
    """Return translation and quaternion of a record; ValueError unless they are seven finite numbers that make a pose."""
    values = (*map(float, record["translation"]), *map(float, record["rotation"]))
    x = sum(values)  # not finite if any number is not
    if len(values) != 7 or len(record["rotation"]) != 4 or x - x != 0.0 or not any(values[3:]):
        raise ValueError(f"translation, rotation: expected 3 and 4 finite numbers, the quaternion w, x, y, z not 0, got {values}")
    return values


def _rows(values: array[float], width: int) -> Float64:
    return np.array(values, np.float64).reshape(-1, width)
