"""Motions that correct agents' poses in a common frame, and the linear equations that they come from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from heal.se3 import inverse_SE3, pose_to_SE3
from heal.types import Float64


def with_motions(agent_SE3_frame: Sequence[Float64], motions: Sequence[Float64] | None, ego_first: bool) -> list[Float64]:
    """Correct the agents' poses by motions within the frame.

    Args:
        agent_SE3_frame: (4, 4) of every agent as measured, maps the frame's coordinates into the agent's frame.
        motions: (4, 4) for each agent; None for no correction.
        ego_first: whether the frame is that of the first agent, the ego, and goes along with it: only motions relative to the
            ego's count then.

    Returns:
        The poses in the same order; the same objects without motions.
    """
    if motions is None:
        return list(agent_SE3_frame)
    if not ego_first:
        return [pose @ inverse_SE3(motion) for pose, motion in zip(agent_SE3_frame, motions, strict=True)]
    own, *others = motions
    moved = zip(agent_SE3_frame[1:], others, strict=True)
    return [agent_SE3_frame[0], *(pose @ inverse_SE3(motion) @ own for pose, motion in moved)]


def motion_of(error: Float64, centre_m: Float64) -> Float64:
    """Return the motion (4, 4) of an error (3,): a turn by its yaw around a point, and a shift by its x and y."""
    motion = pose_to_SE3([0.0, 0.0, 0.0, 0.0, math.degrees(error[0]), 0.0])
    motion[:2, 3] = centre_m + error[1:] - motion[:2, :2] @ centre_m
    return motion


def solve(matrix: Float64, vector: Float64) -> Float64:
    """Solve linear equations with torch, which keeps to the number of threads that it was given; NumPy's solvers use all cores."""
    solution: Float64 = torch.linalg.solve(torch.from_numpy(matrix), torch.from_numpy(vector)).numpy()
    return solution
