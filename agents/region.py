"""Squares of the world: which one an agent is in, how far away one is, which ones its map reaches into, what frame one has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heal.grid import BevGrid
from heal.se3 import pose_to_SE3
from heal.types import Float64


@dataclass(frozen=True, order=True)
class Region:
    """A square of the world, along its axes: x from column * edge_m up to but not including (column + 1) * edge_m, y by row."""

    column: int
    row: int
    edge_m: float

    @staticmethod
    def at(world_SE3_agent: Float64, edge_m: float) -> Region:
        """The one that an agent is in."""
        x_m, y_m = world_SE3_agent[:2, 3]
        return Region(math.floor(x_m / edge_m), math.floor(y_m / edge_m), edge_m)

    def __str__(self) -> str:
        """Column and row."""
        return f"({self.column}, {self.row})"

    @property
    def centre_m(self) -> tuple[float, float]:
        """Its x and y in the world."""
        return (self.column + 0.5) * self.edge_m, (self.row + 0.5) * self.edge_m

    def distance_m(self, world_SE3_agent: Float64) -> float:
        """How far an agent is, in the plane, from the nearest point of it; 0 inside."""
        beyond = np.abs(world_SE3_agent[:2, 3] - self.centre_m) - self.edge_m / 2
        return float(np.hypot(*beyond.clip(min=0.0)))


def regions_in_reach(world_SE3_agent: Float64, grid: BevGrid, edge_m: float) -> frozenset[Region]:
    """The regions that the map of an agent touches, which lies on a grid around it and is turned with it."""
    yaw = _yaw(world_SE3_agent)
    # Columns: the agent's x and y axis in the world.
    axes = np.array([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])
    half_m = np.array([grid.length_x_m / 2, grid.length_y_m / 2])
    hull_m = np.abs(axes) @ half_m
    first, last = (np.floor((world_SE3_agent[:2, 3] + side * hull_m) / edge_m).astype(int) for side in (-1, 1))
    around = [Region(x, y, edge_m) for x in range(first[0], last[0] + 1) for y in range(first[1], last[1] + 1)]
    return frozenset(region for region in around if _meets(region, world_SE3_agent[:2, 3], axes, half_m))


def region_frame(region: Region, world_SE3_agents: Sequence[Float64]) -> Float64:
    """The frame in which a region's boxes are found: at its centre, as high as the agents around it are, and turned as they are.

    Networks are trained in the frames of vehicles, in which roads and hence boxes mostly lie along the axes. In one that is turned
    anyhow the demo's AP@0.7 falls from 0.84 to 0.63. Which way along a road somebody drives makes no difference, nor does a
    crossing: headings are averaged up to quarter turns.

    Args:
        region: the region.
        world_SE3_agents: (4, 4) float64 poses of the agents around it, at least one.

    Returns:
        (4, 4) float64 world_SE3_region, upright.
    """
    quarters = [4 * _yaw(pose) for pose in world_SE3_agents]
    yaw = math.atan2(math.fsum(map(math.sin, quarters)), math.fsum(map(math.cos, quarters))) / 4
    z_m = math.fsum(float(pose[2, 3]) for pose in world_SE3_agents) / len(world_SE3_agents)
    return pose_to_SE3([*region.centre_m, z_m, 0, math.degrees(yaw), 0])


def _yaw(world_SE3_agent: Float64) -> float:
    return math.atan2(world_SE3_agent[1, 0], world_SE3_agent[0, 0])


def _meets(region: Region, middle_m: Float64, axes: Float64, half_m: Float64) -> bool:
    """Whether no axis of a rectangle separates it from a region that its hull touches."""
    apart_m = np.abs((region.centre_m - middle_m) @ axes)
    tile_m = np.abs(axes).sum(axis=0) * region.edge_m / 2
    return bool((apart_m <= half_m + tile_m).all())
