"""Localisation error: poses as agents believe them, drawn reproducibly around the true ones (paper section 5.2)."""

from __future__ import annotations

import dataclasses
import zlib
from typing import Literal

import numpy as np

from heal.config import config
from heal.se3 import SE3_to_pose, pose_to_SE3
from heal.types import AgentFrame, Float64, ObjectLabels, SceneOutline, SceneSource, SensorChoice


@config
class PoseNoise:
    """Distribution of the error in x, y and yaw; the other three numbers of a pose stay true.

    Attributes:
        kind: shape of the distribution.
        position_std_m: spread in x and in y. For laplace this is the scale b, whose standard deviation is b times root 2.
        rotation_std_deg: spread in yaw, likewise.
        position_mean_m: bias in x and in y.
        rotation_mean_deg: bias in yaw.
    """

    kind: Literal["gaussian", "laplace"] = "gaussian"
    position_std_m: float = 0.0
    rotation_std_deg: float = 0.0
    position_mean_m: float = 0.0
    rotation_mean_deg: float = 0.0

    def draw(self, generator: np.random.Generator | np.random.RandomState) -> Float64:
        """One error: two draws for x and y, then one for yaw.

        Returns:
            (6,) x, y, z in metres, roll, yaw, pitch in degrees, to be added to a pose.
        """
        sample = generator.laplace if self.kind == "laplace" else generator.normal
        error = np.zeros(6)
        error[:2] = sample(self.position_mean_m, self.position_std_m, 2)
        error[4] = sample(self.rotation_mean_deg, self.rotation_std_deg, 1)[0]
        return error


class NoisyPoses:
    """A source whose agents, the ego included, are wrong about where they are. Nothing but the measured poses changes.

    The error depends on the seed, the scene and the agent alone: not on the order of reading, nor on the process that reads.
    """

    def __init__(self, source: SceneSource, noise: PoseNoise, seed: int) -> None:
        """Add `noise` to the measured poses of `source`."""
        self.source = source
        self.noise = noise
        self.seed = seed

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self.source)

    def outline(self, index: int) -> SceneOutline:
        """Who takes part; the ego's pose in it is the true one."""
        return self.source.outline(index)

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """The agent's frame, with an error in its measured pose."""
        frame = self.source.agent_frame(index, agent_id, choice)
        key = np.random.SeedSequence([self.seed, index, zlib.crc32(agent_id.encode())])
        error = self.noise.draw(np.random.default_rng(key))
        measured = pose_to_SE3(SE3_to_pose(frame.world_SE3_agent_measured) + error)
        return dataclasses.replace(frame, world_SE3_agent_measured=measured)

    def scene_objects(self, index: int) -> ObjectLabels | None:
        """The labels of the scene, unchanged."""
        return self.source.scene_objects(index)
