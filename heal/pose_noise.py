"""Errors of localisation, drawn around the poses that agents measure (HEAL, section 5.2), in trainings and in runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from heal.config import config
from heal.se3 import SE3_to_pose, pose_to_SE3
from heal.types import AgentFrame, Float64


@config
class PoseNoise:
    """Distribution of the error in x, y and yaw; the other three numbers of a pose stay true.

    Attributes:
        kind: shape of the distribution.
        position_std_m: spread in x and in y. For laplace the spread is the scale b, whose standard deviation is b times root 2.
        rotation_std_deg: spread in yaw; the same for laplace.
        position_mean_m: bias in x and in y.
        rotation_mean_deg: bias in yaw.
    """

    kind: Literal["gaussian", "laplace"] = "gaussian"
    position_std_m: float = 0.0
    rotation_std_deg: float = 0.0
    position_mean_m: float = 0.0
    rotation_mean_deg: float = 0.0

    @property
    def is_zero(self) -> bool:
        """Whether every error is 0."""
        return self == PoseNoise(kind=self.kind)

    def draw(self, generator: np.random.Generator | np.random.RandomState) -> Float64:
        """Draw one error: two numbers for x and y, then one for yaw.

        Returns:
            (6,) x, y, z in metres, roll, yaw, pitch in degrees, to be added to a pose.
        """
        sample = generator.laplace if self.kind == "laplace" else generator.normal
        error = np.zeros(6)
        error[:2] = sample(self.position_mean_m, self.position_std_m, 2)
        error[4] = sample(self.rotation_mean_deg, self.rotation_std_deg, 1)[0]
        return error

    def around(self, frame: AgentFrame, generator: np.random.Generator) -> AgentFrame:
        """Return an agent's frame with an error drawn and added to the pose that the agent measures."""
        measured = pose_to_SE3(SE3_to_pose(frame.world_SE3_agent_measured) + self.draw(generator))
        return replace(frame, world_SE3_agent_measured=measured)
