"""Dividing fusion among regions: which are in use, who is heard where, and one result in which nobody is missing or found twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heal.agents.deployment import Deployment, PlannedFault
from heal.agents.fusion_node import BORDER_M, OUT_OF_RANGE
from heal.agents.records import (
    AgentLatency,
    AgentReport,
    FusionOutcome,
    FusionRequest,
    HeldMap,
    MessageRecord,
    NodeLatency,
    Rejection,
    RunOptions,
)
from heal.agents.regions import NODE_AWAY, FusionTask, Regions, node_of
from heal.agents.tile import Tile, region_frame, tiles_in_reach
from heal.boxes import bottom_rectangles, boxes_to_corners, transform_corners
from heal.decode import DecodeConfig
from heal.detections import Detections
from heal.grid import BevGrid
from heal.rotated_iou import rotated_iou
from heal.se3 import inverse_SE3, pose_to_SE3
from heal.types import Float64, ObjectLabels
from tests.agents.tiny_run import GRID, TICK_NS

DECODE = DecodeConfig()


def report(agent_id: str, x_m: float, y_m: float = 4.0) -> AgentReport:
    pose = pose_to_SE3([x_m, y_m, 1.5, 0, 0, 0])
    return AgentReport(agent_id, "m1", 1, pose, ObjectLabels.empty(), AgentLatency(0, 0, 0))


def whole(tick: int = 0, sequence: str = "drive", world_SE3_ego: Float64 | None = None) -> FusionRequest:
    return FusionRequest(tick, tick * TICK_NS, sequence, "ego", np.eye(4) if world_SE3_ego is None else world_SE3_ego)


def regions_of(edge_m: float = 8.0, grid: BevGrid = GRID, **options: Any) -> Regions:
    return Regions(edge_m, RunOptions(region_m=edge_m, **options), grid, DECODE)


def sent(agent_id: str, tick: int = 0) -> tuple[MessageRecord, str]:
    return MessageRecord(tick, agent_id, "m1", False, 1, tick * TICK_NS, tick * TICK_NS, "used"), f"{agent_id} {tick}"


def outcome(detections: Detections | None = None, **more: Any) -> FusionOutcome:
    words: dict[str, Any] = {"used": (), "held": (), "rejected": (), "latency": NodeLatency(0, 0, 0), **more}
    return FusionOutcome(0, detections or Detections.empty(), **words)


def tasks_for(*senders: tuple[str, ...]) -> list[FusionTask[str]]:
    """Tasks of regions in a row, each with messages of some senders."""
    requests = [FusionRequest(0, 0, "drive", "", np.eye(4), Tile(i, 0, 8.0)) for i in range(len(senders))]
    return [FusionTask(request, tuple(map(sent, own))) for request, own in zip(requests, senders, strict=True)]


def test_a_place_on_a_border_belongs_to_the_region_beyond_it() -> None:
    places = {(-0.1, 0): (-1, 0), (0, 0): (0, 0), (7.999, 7.999): (0, 0), (8, -8): (1, -1), (-8, -8.001): (-1, -2)}
    for (x, y), (column, row) in places.items():
        assert Tile.at(pose_to_SE3([x, y, 0, 0, 0, 0]), 8.0) == Tile(column, row, 8.0)


def test_distance_is_to_the_nearest_point() -> None:
    for (x, y), distance_m in {(1, 7): 0, (-3, 4): 3, (4, 10): 2, (11, 12): 5, (-3, -4): 5}.items():
        assert Tile(0, 0, 8.0).distance_m(pose_to_SE3([x, y, 50, 0, 0, 0])) == pytest.approx(distance_m)


@given(st.floats(-50, 50), st.floats(-50, 50), st.floats(-180, 180), st.floats(4, 30))
@settings(max_examples=50, deadline=None)
def test_a_map_reaches_into_the_tiles_that_it_overlaps(x: float, y: float, yaw_deg: float, edge_m: float) -> None:
    grid, pose = BevGrid((-20.0, -10.0, -3.0, 20.0, 10.0, 1.0), 1.0), pose_to_SE3([x, y, 0, 0, yaw_deg, 0])
    unit = np.array([[1, -1], [1, 1], [-1, 1], [-1, -1]]) / 2
    footprint = torch.from_numpy((unit * (40, 20)) @ pose[:2, :2].T + pose[:2, 3])[None]
    around = [Tile(i, j, edge_m) for i in range(-25, 25) for j in range(-25, 25)]
    squares = torch.from_numpy(np.array([tile.centre_m + edge_m * unit for tile in around]))
    overlaps = zip(around, rotated_iou(footprint, squares)[0].tolist(), strict=True)
    # One that is touched by a corner or a side alone may count or not.
    touched = tiles_in_reach(pose, grid, edge_m)
    wider = tiles_in_reach(pose, BevGrid((-20.1, -10.1, -3.0, 20.1, 10.1, 1.0), 0.1), edge_m)
    assert {tile for tile, iou in overlaps if iou > 1e-6} <= touched <= wider
    assert all(bool(rotated_iou(footprint * 1.01 - footprint.mean(1) * 0.01, square[None])[0, 0] > 0) for square in _squares(touched))


def _squares(tiles: frozenset[Tile]) -> torch.Tensor:
    unit = np.array([[1, -1], [1, 1], [-1, 1], [-1, -1]]) / 2
    return torch.from_numpy(np.array([tile.centre_m + tile.edge_m * unit for tile in tiles]))
