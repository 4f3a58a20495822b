"""Moving the vehicles tick by tick without a collision, ever.

A vehicle keeps to its path and to a speed at which it could stop before whatever stands in its way or before a red signal. On top
of that a step is only made if the place that it leads to is free; as standing still is always possible, no two vehicles can come
to overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heal.datasets.town.world.footprints import footprint, overlaps
from heal.datasets.town.world.paths import STEP_M
from heal.datasets.town.world.traffic import Drive
from heal.types import Float64, Int64

TICK_S = 0.1
WARM_UP_TICKS = 20
_LOOK_M = np.arange(0.4, 26.0, 1.1)
_CIRCLES = np.array([-0.4, -0.2, 0.0, 0.2, 0.4])
_PERIOD_S = 24.0
_GREEN_S = 9.0
_PATIENCE_S = 3.0


@dataclass(frozen=True)
class Motion:
    """Where the moving vehicles are at each tick: (T, V) metres along their paths, and their speed (T, V) in m/s."""

    along_m: Float64
    speed: Float64


class Fleet:
    """The moving vehicles as arrays, one row each.

    Args:
        drives: the vehicles; all paths must be long enough.
        parked: (P, 4, 2) footprints of what stands.
        light_offset_s: (columns, rows) shift of each crossing's signals.
    """

    def __init__(self, drives: Sequence[Drive], parked: Float64, light_offset_s: Float64) -> None:
        """Put every vehicle at the start of its path, standing."""
        self.drives = drives
        shortest = min(len(drive.path.xy) for drive in drives)
        self.xy = np.stack([drive.path.xy[:shortest] for drive in drives])
        self.yaw = np.stack([drive.path.yaw[:shortest] for drive in drives])
        self.limit = np.stack([np.minimum(drive.path.speed_limit[:shortest], drive.speed) for drive in drives])
        self.length = np.array([drive.spec.length_m for drive in drives])
        self.width = np.array([drive.spec.width_m for drive in drives])
        self.parked, self.light_offset_s = parked, light_offset_s
        self.parked_middle = parked.mean(axis=1)
        self.rows = np.arange(len(drives))
        self.along = np.zeros(len(drives))
        self.speed = 0.6 * self.limit[:, 0]
        self.waited = np.zeros(len(drives))
        self.footprints = self._footprints(self.along)

    def run(self, ticks: int) -> Motion:
        """Drive for a warm-up and then `ticks` ticks, and say where everybody was."""
        along, speed = [], []
        for tick in range(WARM_UP_TICKS + ticks):
            along.append(self.along.copy())
            speed.append(self.speed.copy())
            self._step(tick * TICK_S)
        return Motion(np.array(along[WARM_UP_TICKS:]), np.array(speed[WARM_UP_TICKS:]))

    def _step(self, time_s: float) -> None:
        gap = self._free_way()
        gap[self.waited > _PATIENCE_S] = np.maximum(gap, 2.0)[self.waited > _PATIENCE_S]
        gap = np.minimum(gap, self._red_light(time_s))
        index = self._index(self.along)
        wanted = np.minimum(self.limit[self.rows, index], np.sqrt(6.0 * np.maximum(gap - 1.6, 0.0)))
        self.speed = np.maximum(np.clip(wanted, self.speed - 6.0 * TICK_S, self.speed + 2.0 * TICK_S), 0.0)
        self._move()
        self.waited = np.where(self.speed < 0.1, self.waited + TICK_S, 0.0)

    def _index(self, along: Float64) -> Int64:
        index: Int64 = np.minimum((along / STEP_M).astype(np.int64), self.xy.shape[1] - 1)
        return index

    def _footprints(self, along: Float64, margin_m: float = 0.0) -> Float64:
        index = self._index(along)
        size = self.length + 2 * margin_m, self.width + 2 * margin_m
        return footprint(self.xy[self.rows, index], self.yaw[self.rows, index], *size)

    def _free_way(self) -> Float64:
        """(V,) metres ahead of each front to the first vehicle that stands in the way."""
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
        """(V,) metres from each front to the next stop line with a red signal that can still be obeyed."""
        gap = np.full(len(self.drives), np.inf)
        front = self.along + self.length / 2
        for row, drive in enumerate(self.drives):
            number = int(np.searchsorted(drive.path.stops_m, front[row]))
            if number == len(drive.path.stops_m):
                continue
            distance = drive.path.stops_m[number] - front[row]
            column, line, axis = drive.path.signals[number]
            phase = (time_s + self.light_offset_s[column, line] + axis * _PERIOD_S / 2) % _PERIOD_S
            if phase > _GREEN_S and distance > self.speed[row] ** 2 / 10.0:
                gap[row] = distance + 1.0
        return gap

    def _move(self) -> None:
        """Make each vehicle's step if the place it leads to is free, one vehicle after the other."""
        wished = self.along + self.speed * TICK_S
        reserved = self._footprints(wished, margin_m=0.12)
        for row in self.rows[wished > self.along]:
            middle = reserved[row].mean(axis=0)
            reach = 7.0 + self.length[row] / 2
            moving = np.abs(self.footprints.mean(axis=1) - middle).max(axis=1) < reach
            moving[row] = False
            standing = np.abs(self.parked_middle - middle).max(axis=1) < reach
            if overlaps(reserved[row], np.concatenate([self.footprints[moving], self.parked[standing]])):
                self.speed[row] = 0.0
                continue
            self.along[row] = wished[row]
            index = self._index(self.along[row : row + 1])[0]
            self.footprints[row] = footprint(self.xy[row, index], self.yaw[row, index], self.length[row], self.width[row])
