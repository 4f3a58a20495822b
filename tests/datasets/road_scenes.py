"""Scenes of the built-in town for the tests of readers: what the agents sense, and what writers of other layouts need."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from heal.datasets.dataset import Dataset
from heal.datasets.town.opv2v_metadata import frame_metadata
from heal.datasets.town.source import TownSource
from heal.se3 import pose_to_SE3
from heal.types import AgentFrame, Float32, Float64, ObjectLabels

VEHICLES, ROADSIDE = ("1000", "1001"), "-1"
TICKS = 2
FIRST_POINTS = 400  # of each sweep, so that writing and reading text is quick


@dataclass(frozen=True)
class TrueObject:
    """A labelled vehicle: its id, its pose, and half of its length, width and height in metres."""

    object_id: int
    world_SE3_object: Float64
    half_m: list[float]


@dataclass(frozen=True)
class TrueFrame:
    """What one agent senses at one instant.

    Attributes:
        tick: number of the instant.
        frame: the town's frame.
        points: (N, 4) the first points of the sweep.
        objects: the labelled vehicles, in the order of `frame.objects`.
    """

    tick: int
    frame: AgentFrame
    points: Float32
    objects: tuple[TrueObject, ...]

    @property
    def pose(self) -> Float64:
        """The LiDAR's pose in the world."""
        return self.frame.world_SE3_agent


@lru_cache(maxsize=1)
def town_frames() -> dict[str, list[TrueFrame]]:
    """Return the frames of all agents of a small town: two vehicles and a roadside unit, at two instants."""
    source = TownSource("test", seed=0, ticks=TICKS)
    return {agent_id: [_true_frame(source, tick, agent_id) for tick in range(TICKS)] for agent_id in (*VEHICLES, ROADSIDE)}


def _true_frame(source: TownSource, tick: int, agent_id: str) -> TrueFrame:
    frame = source.agent_frame(tick, agent_id)
    listed = frame_metadata(source, tick, agent_id)["vehicles"].items()
    objects = tuple(TrueObject(key, _pose(entry), entry["extent"]) for key, entry in listed)
    assert frame.lidar is not None and [each.object_id for each in objects] == frame.objects.ids.tolist()
    return TrueFrame(tick, frame, frame.lidar.points[:FIRST_POINTS], objects)


def _pose(entry: dict[str, Any]) -> Float64:
    return pose_to_SE3(np.concatenate([np.add(entry["location"], entry["center"]), entry["angle"]]))


def write_metadata(path: Path, values: dict[str, Any], dumper: type[Any] = yaml.CSafeDumper) -> None:
    """Write a metadata file; make its folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.dump(values, Dumper=dumper), encoding="utf-8")


def write_ascii_pcd(path: Path, points: Float32, intensity_top: float) -> None:
    """Write a cloud as text with the fields x, y, z and intensity, stored as whole numbers up to `intensity_top`."""
    rows = np.column_stack([points[:, :3], np.rint(points[:, 3] * intensity_top)])
    header = "VERSION 0.7\nFIELDS x y z intensity\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\n"
    header += f"WIDTH {len(rows)}\nHEIGHT 1\nPOINTS {len(rows)}\nDATA ascii\n"
    path.write_text(header + "\n".join(" ".join(f"{number:.9g}" for number in row) for row in rows) + "\n")


def assert_as_sensed(source: Dataset, truth: dict[str, list[TrueFrame]], intensity_step: float) -> None:
    """Assert that all scenes of a data set have the poses, clouds and boxes of the frames that were written."""
    assert len(source) == TICKS
    for tick in range(TICKS):
        assert set(source.outline(tick).agent_ids) == set(truth)
        for agent_id, frames in truth.items():
            read, true = source.agent_frame(tick, agent_id), frames[tick]
            np.testing.assert_allclose(read.world_SE3_agent, true.pose, atol=1e-9)
            assert read.lidar is not None
            np.testing.assert_array_equal(read.lidar.points[:, :3], true.points[:, :3])
            np.testing.assert_allclose(read.lidar.points[:, 3], true.points[:, 3], atol=intensity_step)
            assert_same_boxes(read.objects, true.frame.objects)
        assert_same_boxes(source.scene_objects(tick), ObjectLabels.union([frames[tick].frame.objects for frames in truth.values()]))


def assert_same_boxes(read: ObjectLabels, true: ObjectLabels) -> None:
    """Assert that labels have the same boxes, whatever their ids and their order."""
    assert len(read) == len(true) and len(set(read.ids.tolist())) == len(read)
    orders = [np.lexsort(labels.world_corners.mean(axis=1).round(3).T) for labels in (read, true)]
    np.testing.assert_allclose(read.world_corners[orders[0]], true.world_corners[orders[1]], atol=1e-6)
