"""Regions: squares of ground, their distances from agents, the regions that an agent's map overlaps, and each region's frame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from heal.grid import BevGrid
from heal.se3 import pose_to_SE3
from heal.types import Float64


class Region(NamedTuple):
    """A square of ground with its sides along the axes of the world. It is a tuple because tuples are compared and found quickly.

    Attributes:
        column: x of the region is column * edge_m up to but not including (column + 1) * edge_m.
        row: y of the region is row * edge_m up to but not including (row + 1) * edge_m.
        edge_m: length of a side in m.
    """

    column: int
    row: int
    edge_m: float

    @staticmethod
    def at(world_SE3_agent: Float64, edge_m: float) -> Region:
        """Return the region that contains an agent."""
        x_m, y_m = world_SE3_agent[:2, 3].tolist()
        return Region(math.floor(x_m / edge_m), math.floor(y_m / edge_m), edge_m)

    def __str__(self) -> str:
        """Return column and row as in `(3, -1)`."""
        return f"({self.column}, {self.row})"

    @property
    def centre_m(self) -> tuple[float, float]:
        """The x and y of the centre in the world, in m."""
        return (self.column + 0.5) * self.edge_m, (self.row + 0.5) * self.edge_m

    def distance_m(self, world_SE3_agent: Float64) -> float:
        """Return the distance in the plane from an agent to the nearest point of the region; 0 for an agent inside."""
        (x_m, y_m), (centre_x_m, centre_y_m) = world_SE3_agent[:2, 3].tolist(), self.centre_m
        return math.hypot(max(abs(x_m - centre_x_m) - self.edge_m / 2, 0.0), max(abs(y_m - centre_y_m) - self.edge_m / 2, 0.0))


def regions_in_reach(world_SE3_agent: Float64, grid: BevGrid, edge_m: float) -> Iterator[Region]:
    """Return the regions that the map of an agent overlaps, by the separating axis test of a rectangle and squares.

    Args:
        world_SE3_agent: (4, 4) float64 pose of the agent; its map is centred on the agent and turned with its yaw.
        grid: of the map.
        edge_m: edge of a region.
    """
    yaw, (x_m, y_m) = _yaw(world_SE3_agent), world_SE3_agent[:2, 3].tolist()
    cos, sin, half_x_m, half_y_m = math.cos(yaw), math.sin(yaw), grid.length_x_m / 2, grid.length_y_m / 2
    # Half the sides of the map's hull along the world's axes, and of a region's hull along the agent's axes.
    hull_x_m, hull_y_m = abs(cos) * half_x_m + abs(sin) * half_y_m, abs(sin) * half_x_m + abs(cos) * half_y_m
    region_half_m = (abs(cos) + abs(sin)) * edge_m / 2
    for column in range(math.floor((x_m - hull_x_m) / edge_m), math.floor((x_m + hull_x_m) / edge_m) + 1):
        for row in range(math.floor((y_m - hull_y_m) / edge_m), math.floor((y_m + hull_y_m) / edge_m) + 1):
            off_x_m, off_y_m = (column + 0.5) * edge_m - x_m, (row + 0.5) * edge_m - y_m
            along_m, across_m = abs(off_x_m * cos + off_y_m * sin), abs(off_y_m * cos - off_x_m * sin)
            if along_m <= half_x_m + region_half_m and across_m <= half_y_m + region_half_m:
                yield Region(column, row, edge_m)


def region_frame(region: Region, world_SE3_agents: Sequence[Float64]) -> Float64:
    """Return the frame in which a region's boxes are found: at the region's centre, with the mean height and heading of the agents.

    Networks are trained in the frames of vehicles, in which roads and hence boxes mostly lie along the axes. In a frame of
    arbitrary heading the demo's AP@0.7 falls from 0.84 to 0.63. Headings are averaged modulo quarter turns, so that neither the
    direction of driving along a road nor a crossing makes a difference.

    Args:
        region: the region.
        world_SE3_agents: (4, 4) float64 poses of the agents around the region, at least one.

    Returns:
        (4, 4) float64 world_SE3_region, upright.
    """
    quarters = [4 * _yaw(pose) for pose in world_SE3_agents]
    yaw = math.atan2(math.fsum(map(math.sin, quarters)), math.fsum(map(math.cos, quarters))) / 4
    z_m = math.fsum(float(pose[2, 3]) for pose in world_SE3_agents) / len(world_SE3_agents)
    return pose_to_SE3([*region.centre_m, z_m, 0, math.degrees(yaw), 0])


def _yaw(world_SE3_agent: Float64) -> float:
    return math.atan2(world_SE3_agent[1, 0], world_SE3_agent[0, 0])
