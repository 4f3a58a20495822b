"""The correction of poses: the estimate of many agents' errors from the peaks of their foreground scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heal.pose_correction.by_peaks import motions_by_peaks
from heal.pose_correction.peaks import Peaks
from heal.se3 import inverse_SE3, pose_to_SE3, transform_points
from heal.tools.benches.measure import BenchRow, timed
from heal.tools.benches.setup import SEED, BenchSetup
from heal.types import Float64

CROWDS = (8, 32, 128)
SIDE_M, VEHICLES, REACH_M, MOST_PEAKS = 150.0, 200, 51.2, 40
ERROR_M, PEAK_ERROR_M = 0.5, 0.2


def bench_poses(setup: BenchSetup, crowds: Sequence[int] = CROWDS) -> list[BenchRow]:
    """Run the poses of `heal bench fuse`: correct the poses of more and more agents on the same ground."""
    cases = [crowded_ground(agents) for agents in crowds]
    timings = timed(*(lambda case=case: motions_by_peaks(*case) for case in cases), repeats=setup.repeats)
    note = "agents with 200 vehicles on 150 m x 150 m: correction of their poses, without the search for peaks"
    return [BenchRow.of(f"fuse/poses{agents}", timing, f"{agents} {note}") for agents, timing in zip(crowds, timings, strict=True)]


def crowded_ground(agents: int) -> tuple[list[Peaks], list[Float64]]:
    """Return the peaks and the measured poses of agents that see many vehicles in common; the poses are wrong by half a metre."""
    rng = np.random.default_rng(SEED)
    vehicles_m = np.pad(rng.uniform(0, SIDE_M, (VEHICLES, 2)), ((0, 0), (0, 1)))
    peaks, measured = [], []
    for x_m, y_m, yaw_deg in rng.uniform((0, 0, -180), (SIDE_M, SIDE_M, 180), (agents, 3)):
        agent_SE3_world = inverse_SE3(pose_to_SE3([x_m, y_m, 0, 0, yaw_deg, 0]))
        places_m = transform_points(agent_SE3_world, vehicles_m)[:, :2]
        seen_m = places_m[(np.abs(places_m) < REACH_M).all(axis=1)][:MOST_PEAKS]
        peaks.append(Peaks(seen_m + rng.normal(0, PEAK_ERROR_M, seen_m.shape), rng.uniform(0.2, 1.0, len(seen_m))))
        error_x_m, error_y_m, error_deg = rng.normal(0, ERROR_M, 3)
        measured.append(pose_to_SE3([x_m + error_x_m, y_m + error_y_m, 0, 0, yaw_deg + error_deg, 0]))
    return peaks, measured
