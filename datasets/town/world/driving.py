"""Move the vehicles tick by tick without collisions.

A vehicle follows its path at a speed from which it can stop before an obstacle or a red signal. In addition, a vehicle makes a step
only if the place after the step is free. Standing still is always possible, so no two vehicles can overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heal.datasets.town.world.footprints import footprint, overlaps
from heal.datasets.town.world.paths import STEP_M
from heal.datasets.town.world.traffic import MovingVehicle
from heal.types import Float64, Int64

TICK_S = 0.1
WARM_UP_TICKS = 20
_LOOK_M = np.arange(0.4, 26.0, 1.1)  # distances ahead of a vehicle's front at which its path is checked for obstacles
_CIRCLES = np.array([-0.4, -0.2, 0.0, 0.2, 0.4])  # centres of the circles that cover a vehicle, in lengths from its middle
_PERIOD_S = 24.0  # of a crossing's signals
_GREEN_S = 9.0  # of each axis
_PATIENCE_S = 3.0  # a vehicle that has stood for longer creeps forward


@dataclass(frozen=True)
class Motion:
    """The motion of all moving vehicles.

    Attributes:
        along_m: (T, V) metres along the path at each tick.
        speed: (T, V) m/s.
    """

    along_m: Float64
    speed: Float64


class Fleet:
    """The moving vehicles as arrays with one row for each vehicle.

    Args:
        vehicles: the vehicles; all paths must be long enough for the simulated time.
        parked: (P, 4, 2) footprints of the parked vehicles.
        light_offset_s: (columns, rows) time shift of each crossing's signals.
    """

    def __init__(self, vehicles: Sequence[MovingVehicle], parked: Float64, light_offset_s: Float64) -> None:
        """Place every vehicle at the start of its path."""
        self.vehicles = vehicles
        shortest = min(len(vehicle.path.xy) for vehicle in vehicles)
        self.xy = np.stack([vehicle.path.xy[:shortest] for vehicle in vehicles])
        self.yaw = np.stack([vehicle.path.yaw[:shortest] for vehicle in vehicles])
        self.limit = np.stack([np.minimum(vehicle.path.speed_limit[:shortest], vehicle.speed) for vehicle in vehicles])
        self.length = np.array([vehicle.spec.length_m for vehicle in vehicles])
        self.width = np.array([vehicle.spec.width_m for vehicle in vehicles])
        self.parked, self.light_offset_s = parked, light_offset_s
        self.parked_middle = parked.mean(axis=1)
        self.rows = np.arange(len(vehicles))
        self.along = np.zeros(len(vehicles))
        self.speed = 0.6 * self.limit[:, 0]
        self.waited = np.zeros(len(vehicles))
        self.footprints = self._footprints(self.along)

    def run(self, ticks: int) -> Motion:
        """Simulate a warm-up and then `ticks` ticks; return the motion after the warm-up."""
        along, speed = [], []
        for tick in range(WARM_UP_TICKS + ticks):
            along.append(self.along.copy())
            speed.append(self.speed.copy())
            self._step(tick * TICK_S)
        return Motion(np.array(along[WARM_UP_TICKS:]), np.array(speed[WARM_UP_TICKS:]))

    def _step(self, time_s: float) -> None:
        """Choose the speeds by obstacles, signals and limits, and move all vehicles by one tick."""
        gap = self._free_way()
        gap[self.waited > _PATIENCE_S] = np.maximum(gap, 2.0)[self.waited > _PATIENCE_S]
        gap = np.minimum(gap, self._red_light(time_s))
        index = self._index(self.along)
        wanted = np.minimum(self.limit[self.rows, index], np.sqrt(6.0 * np.maximum(gap - 1.6, 0.0)))
        self.speed = np.maximum(np.clip(wanted, self.speed - 6.0 * TICK_S, self.speed + 2.0 * TICK_S), 0.0)
        self._move()
        self.waited = np.where(self.speed < 0.1, self.waited + TICK_S, 0.0)

    def _index(self, along: Float64) -> Int64:
        """Return the samples of the paths at `along` (V,) metres."""
        index: Int64 = np.minimum((along / STEP_M).astype(np.int64), self.xy.shape[1] - 1)
        return index

    def _footprints(self, along: Float64, margin_m: float = 0.0) -> Float64:
        """Return the footprints (V, 4, 2) at `along` (V,) metres, larger by `margin_m` on every side."""
        index = self._index(along)
        size = self.length + 2 * margin_m, self.width + 2 * margin_m
        return footprint(self.xy[self.rows, index], self.yaw[self.rows, index], *size)

    def _free_way(self) -> Float64:
        """Return the distance (V,) from each front to the first vehicle on the path; inf without one."""
        ahead = self.along[:, None] + self.length[:, None] / 2 + _LOOK_M
        index = np.minimum((ahead / STEP_M).astype(np.int64), self.xy.shape[1] - 1)
        places = self.xy[self.rows[:, None], index]
        now = self._index(self.along)
        yaw = self.yaw[self.rows, now]
        forward = np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
        circles = self.xy[self.rows, now][:, None] + (self.length[:, None] * _CIRCLES)[..., None] * forward[:, None]
        apart = places[:, :, None, None] - circles[None, None]
        reach = (self.width[:, None] + self.width[None]) / 2 + 0.35
        near = (apart**2).sum(axis=-1) < (reach**2)[:, None, :, None]
        near[self.rows, :, self.rows] = False
        blocked = near.any(axis=(2, 3))
        return np.where(blocked.any(axis=1), _LOOK_M[blocked.argmax(axis=1)], np.inf)

    def _red_light(self, time_s: float) -> Float64:
        """Return the distance (V,) from each front to the next stop line, if its signal is red and the vehicle can still stop."""
        gap = np.full(len(self.vehicles), np.inf)
        front = self.along + self.length / 2
        for row, vehicle in enumerate(self.vehicles):
            number = int(np.searchsorted(vehicle.path.stops_m, front[row]))
            if number == len(vehicle.path.stops_m):
                continue
            distance = vehicle.path.stops_m[number] - front[row]
            column, line, axis = vehicle.path.signals[number]
            phase = (time_s + self.light_offset_s[column, line] + axis * _PERIOD_S / 2) % _PERIOD_S
            if phase > _GREEN_S and distance > self.speed[row] ** 2 / 10.0:
                gap[row] = distance + 1.0
        return gap

    def _move(self) -> None:
        """Move the vehicles one after another, each only if the place after its step is free."""
        intended = self.along + self.speed * TICK_S
        reserved = self._footprints(intended, margin_m=0.12)
        for row in self.rows[intended > self.along]:
            middle = reserved[row].mean(axis=0)
            reach = 7.0 + self.length[row] / 2
            moving = np.abs(self.footprints.mean(axis=1) - middle).max(axis=1) < reach
            moving[row] = False
            standing = np.abs(self.parked_middle - middle).max(axis=1) < reach
            if overlaps(reserved[row], np.concatenate([self.footprints[moving], self.parked[standing]])):
                self.speed[row] = 0.0
                continue
            self.along[row] = intended[row]
            index = self._index(self.along[row : row + 1])[0]
            self.footprints[row] = footprint(self.xy[row, index], self.yaw[row, index], self.length[row], self.width[row])
