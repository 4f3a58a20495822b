"""Errors of localisation and of clocks: the poses and times that agents measure, drawn around the true ones (paper section 5.2)."""

from __future__ import annotations

import dataclasses
from typing import Literal, cast

from heal.config import config
from heal.option_text import OptionText
from heal.pose_noise import PoseNoise
from heal.seeding import keyed_generator
from heal.types import AgentFrame, ObjectLabels, SceneOutline, SceneSource, SensorChoice

MAX_SPREAD = 1e6
"""The largest spread of an error; what is larger leaves neither poses nor times."""


@config
class ClockNoise:
    """Distribution of the agents' clock errors; drift is left out, because over a recording it stays far below a millisecond.

    Attributes:
        offset_std_ms: standard deviation of an agent's offset, Gaussian; the offset is the same in all scenes.
        jitter_std_ms: standard deviation of the error that every frame adds to the offset, Gaussian.
    """

    offset_std_ms: float = 0.0
    jitter_std_ms: float = 0.0

    @property
    def is_zero(self) -> bool:
        """Whether every error is 0."""
        return self == ClockNoise()


@config
class SensorNoise:
    """Errors of the agents' poses and clocks.

    Attributes:
        pose: error of localisation.
        clock: error of time.
    """

    pose: PoseNoise = PoseNoise()
    clock: ClockNoise = ClockNoise()

    @staticmethod
    def parse(text: str) -> SensorNoise:
        """Read `none`, or settings such as `position:0.2,rotation:0.2,kind:laplace,clock:20`; docs/links.md lists them.

        Raises:
            ValueError: an unknown or unusable setting; the message lists the possible ones.
        """
        given = OptionText.read("noise", text, ("position", "rotation", "kind", "clock", "clock_jitter"), ("none",))
        if "none" in given and len(given.pairs) > 1:
            raise given.error("none stands alone; a part that is not named has no error")
        spreads = [given.number(name, 0.0) for name in ("position", "rotation", "clock", "clock_jitter")]
        if not all(0 <= spread <= MAX_SPREAD for spread in spreads):
            raise given.error(f"expected spreads from 0 to {MAX_SPREAD:g}: metres, degrees, milliseconds, milliseconds")
        position_m, rotation_deg, clock_ms, jitter_ms = spreads
        kind = cast(Literal["gaussian", "laplace"], given.choice("kind", ("gaussian", "laplace"), "gaussian"))
        return SensorNoise(
            pose=PoseNoise(kind=kind, position_std_m=position_m, rotation_std_deg=rotation_deg),
            clock=ClockNoise(offset_std_ms=clock_ms, jitter_std_ms=jitter_ms),
        )

    def around(self, source: SceneSource, seed: int) -> SceneSource:
        """Return `source` with these errors, or `source` itself if every error is 0."""
        return source if self.pose.is_zero and self.clock.is_zero else NoisySource(source, self, seed)


class NoisySource:
    """A source whose agents measure wrong poses and wrong times; nothing else in the frames changes.

    An error depends on the seed, the scene and the agent alone, not on the order of reading or on the process that reads.

    Every agent, the ego included, has an error in its measured pose. The ego's clock is the reference: the fusion node is on board
    the ego, and an offset counts only against the ego's clock. An agent therefore has no clock error in the scenes whose ego it is.

    Args:
        source: the source of the true poses and times.
        noise: distributions of the errors.
        seed: seed of the errors, 0 or more.
    """

    def __init__(self, source: SceneSource, noise: SensorNoise, seed: int) -> None:
        """Wrap a source; nothing is read or drawn yet."""
        self.source, self.noise, self.seed = source, noise, seed

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.source)

    def outline(self, index: int) -> SceneOutline:
        """Return the outline of scene `index`, with the ego's true pose and time."""
        return self.source.outline(index)

    def scene_objects(self, index: int) -> ObjectLabels | None:
        """Return the labels of scene `index`, unchanged."""
        return self.source.scene_objects(index)

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """Read an agent's frame and add the errors to its measured pose and its time."""
        frame = self.source.agent_frame(index, agent_id, choice)
        if not self.noise.pose.is_zero:
            frame = self.noise.pose.around(frame, keyed_generator(self.seed, "pose", index, agent_id))
        if not self.noise.clock.is_zero and agent_id != self.source.outline(index).ego_id:
            error_ns = round(self._clock_error_ms(index, agent_id) * 1e6)
            frame = dataclasses.replace(frame, timestamp_ns=frame.timestamp_ns + error_ns)
        return frame

    def _clock_error_ms(self, index: int, agent_id: str) -> float:
        offset_ms = keyed_generator(self.seed, "clock", agent_id).normal(0.0, self.noise.clock.offset_std_ms)
        jitter_ms = keyed_generator(self.seed, "clock jitter", index, agent_id).normal(0.0, self.noise.clock.jitter_std_ms)
        return offset_ms + jitter_ms
