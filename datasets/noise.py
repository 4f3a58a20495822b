"""Errors of localisation and of clocks: poses and times as agents believe them, drawn around the true ones (paper section 5.2)."""

from __future__ import annotations

import dataclasses
from typing import Literal, cast

import numpy as np

from heal.config import config
from heal.option_text import Words
from heal.se3 import SE3_to_pose, pose_to_SE3
from heal.seeding import keyed_generator
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


@config
class ClockNoise:
    """Distribution of how far the agents' clocks are off; drift is left out, as over a recording it stays far below a millisecond.

    Attributes:
        offset_std_ms: spread of an agent's offset, Gaussian; it stays the same all the time.
        jitter_std_ms: spread of what is added to it anew in every frame, likewise.
    """

    offset_std_ms: float = 0.0
    jitter_std_ms: float = 0.0


class _FrameNoise:
    """A source that passes everything on and leaves it to its children to change the frames."""

    def __init__(self, source: SceneSource, seed: int) -> None:
        """Stand before `source`."""
        self.source = source
        self.seed = seed

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self.source)

    def outline(self, index: int) -> SceneOutline:
        """Who takes part, and when; the ego's pose in it is the true one."""
        return self.source.outline(index)

    def scene_objects(self, index: int) -> ObjectLabels | None:
        """The labels of the scene, unchanged."""
        return self.source.scene_objects(index)


class NoisyPoses(_FrameNoise):
    """A source whose agents, the ego included, are wrong about where they are. Nothing but the measured poses changes.

    The error depends on the seed, the scene and the agent alone: not on the order of reading, nor on the process that reads.
    """

    def __init__(self, source: SceneSource, noise: PoseNoise, seed: int) -> None:
        """Add `noise` to the measured poses of `source`."""
        super().__init__(source, seed)
        self.noise = noise

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """The agent's frame, with an error in its measured pose."""
        frame = self.source.agent_frame(index, agent_id, choice)
        error = self.noise.draw(keyed_generator(self.seed, "pose", index, agent_id))
        measured = pose_to_SE3(SE3_to_pose(frame.world_SE3_agent_measured) + error)
        return dataclasses.replace(frame, world_SE3_agent_measured=measured)


class NoisyClocks(_FrameNoise):
    """A source whose agents are wrong about what time it is. Nothing but the frames' times changes, which go into the messages.

    The ego's clock is the reference: the fusion node is on board, and only what others are off against it matters. In the scenes in
    which it is the ego, an agent therefore has no error.
    """

    def __init__(self, source: SceneSource, noise: ClockNoise, seed: int) -> None:
        """Add `noise` to the times of `source`."""
        super().__init__(source, seed)
        self.noise = noise

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """The agent's frame, with its own idea of the time."""
        frame = self.source.agent_frame(index, agent_id, choice)
        if agent_id == self.source.outline(index).ego_id:
            return frame
        offset_ms = keyed_generator(self.seed, "clock", agent_id).normal(0.0, self.noise.offset_std_ms)
        jitter_ms = keyed_generator(self.seed, "clock jitter", index, agent_id).normal(0.0, self.noise.jitter_std_ms)
        return dataclasses.replace(frame, timestamp_ns=frame.timestamp_ns + round((offset_ms + jitter_ms) * 1e6))


@config
class SensorNoise:
    """What is wrong with the agents' poses and clocks.

    Attributes:
        pose: error of localisation.
        clock: error of time.
    """

    pose: PoseNoise = PoseNoise()
    clock: ClockNoise = ClockNoise()

    @staticmethod
    def parse(text: str) -> SensorNoise:
        """Read `none`, or words such as `position:0.2,rotation:0.2,kind:laplace,clock:20`; docs/links.md lists them.

        Raises:
            ValueError: with what is possible instead.
        """
        words = Words.read("noise", text, ("position", "rotation", "kind", "clock", "clock_jitter"), ("none",))
        if "none" in words and len(words.pairs) > 1:
            raise ValueError(f"noise {text!r}: none stands alone; what is not named has no error anyway")
        spreads = [words.number(name, 0.0) for name in ("position", "rotation", "clock", "clock_jitter")]
        if min(spreads) < 0:
            raise ValueError(f"noise {text!r}: expected spreads >= 0: metres, degrees, milliseconds, milliseconds")
        position_m, rotation_deg, clock_ms, jitter_ms = spreads
        kind = cast(Literal["gaussian", "laplace"], words.choice("kind", ("gaussian", "laplace"), "gaussian"))
        return SensorNoise(
            pose=PoseNoise(kind=kind, position_std_m=position_m, rotation_std_deg=rotation_deg),
            clock=ClockNoise(offset_std_ms=clock_ms, jitter_std_ms=jitter_ms),
        )

    def around(self, source: SceneSource, seed: int) -> SceneSource:
        """The source with these errors; the source itself where there are none."""
        if self.pose != PoseNoise(kind=self.pose.kind):
            source = NoisyPoses(source, self.pose, seed)
        return source if self.clock == ClockNoise() else NoisyClocks(source, self.clock, seed)
