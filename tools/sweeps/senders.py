"""Senders of little use or of harm, for a sweep: blind, misplaced, with maps of noise, or with maps that are far too large."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from heal.agent_types import in_range
from heal.agents.interfaces import AllianceLike, Encoder
from heal.agents.options import RunOptions
from heal.se3 import pose_to_SE3
from heal.seeding import keyed_generator
from heal.tools.sweeps.wrapped import WrappedAlliance, WrappedEncoder
from heal.training.partners import blinded
from heal.types import AgentFrame, ObjectLabels, SceneOutline, SceneSource, SensorChoice

AHEAD_M = 5.0  # error of the pose of a misplaced agent, along its x axis
FACTORS: Mapping[str, float] = {"times 10": 10.0, "times 100": 100.0}
SENDER_KINDS = ("blind", "noise", "misplaced", *FACTORS)
_OF_MAPS = ("noise", *FACTORS)  # spoil the feature map; the others spoil the frame


@dataclass(frozen=True)
class BadSenders:
    """How agents other than the ego are spoiled.

    Attributes:
        kind: one of `SENDER_KINDS`. Blind agents have no LiDAR return and black images. The maps of noise are random, with the mean
            and the spread of the agent's own map in every channel. Misplaced agents measure a pose that is `AHEAD_M` ahead of the
            true one. Maps of the others are 10 or 100 times too large.
        everyone: whether all agents but the ego are spoiled, or the nearest of them alone.
    """

    kind: str
    everyone: bool

    def around(
        self, alliance: AllianceLike, source: SceneSource, seed: int, options: RunOptions
    ) -> tuple[AllianceLike, SceneSource]:
        """Return an alliance and a source in which agents are spoiled; for runs in one process, one agent after the other.

        Args:
            alliance: the networks.
            source: the scenes.
            seed: of the noise.
            options: of the run; agents that take no part are not spoiled.
        """
        spoiled = _SpoiledSource(source, self, options)
        return _SpoilingAlliance(alliance, spoiled, seed), spoiled


class _SpoiledSource:
    """A source with blind or misplaced agents, which knows who is spoiled in the scene that was read last."""

    def __init__(self, source: SceneSource, bad: BadSenders, options: RunOptions) -> None:
        self._source, self.bad, self._options = source, bad, options
        self.index, self.spoiled_ids = -1, frozenset[str]()

    def __len__(self) -> int:
        return len(self._source)

    def outline(self, index: int) -> SceneOutline:
        return self._source.outline(index)

    def scene_objects(self, index: int) -> ObjectLabels | None:
        return self._source.scene_objects(index)

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        frame = self._source.agent_frame(index, agent_id, choice)
        if index != self.index:
            others = self._others(index)
            self.index, self.spoiled_ids = index, frozenset(others if self.bad.everyone else others[:1])
        if agent_id not in self.spoiled_ids:
            return frame
        if self.bad.kind == "misplaced":
            moved = frame.world_SE3_agent_measured @ pose_to_SE3([AHEAD_M, 0, 0, 0, 0, 0])
            return replace(frame, world_SE3_agent_measured=moved)
        # What there is to find stays the same.
        return replace(blinded(frame), objects=frame.objects) if self.bad.kind == "blind" else frame

    def _others(self, index: int) -> list[str]:
        """Return the ids of the agents in range that take part but the ego, the nearest first, which is fused if any is."""
        ego_id, *others = self.outline(index).ego_first
        poses = {
            known: self._source.agent_frame(index, known, SensorChoice(lidar=False)).world_SE3_agent for known in (ego_id, *others)
        }
        near = [known for known in others if in_range(poses[ego_id], poses[known], self._options.ego_range_m)]
        if self._options.agents is not None:
            near = near[: self._options.agents - 1]
        return sorted(near, key=lambda known: float(np.linalg.norm(poses[known][:2, 3] - poses[ego_id][:2, 3])))


class _SpoilingEncoder(WrappedEncoder):
    """The network of an agent type; the maps of spoiled agents become noise, or too large."""

    def __init__(self, encoder: Encoder, source: _SpoiledSource, seed: int) -> None:
        super().__init__(encoder)
        self._source, self._seed = source, seed

    def __call__(self, frames: Sequence[AgentFrame]) -> Tensor:
        maps = self.encode(frames)
        if self._source.bad.kind not in _OF_MAPS or not self._source.spoiled_ids.intersection(frame.agent_id for frame in frames):
            return maps  # the same tensor, so that its scales are not computed again
        return torch.stack([self._spoiled(frame.agent_id, part) for frame, part in zip(frames, maps, strict=True)])

    def _spoiled(self, agent_id: str, features: Tensor) -> Tensor:
        kind = self._source.bad.kind
        if agent_id not in self._source.spoiled_ids:
            return features
        if kind == "noise":
            drawn = keyed_generator(self._seed, "noise", self._source.index, agent_id).standard_normal(features.shape)
            mean, spread = features.mean(dim=(1, 2), keepdim=True), features.std(dim=(1, 2), keepdim=True)
            return mean + spread * torch.from_numpy(drawn).to(features)
        return features * FACTORS[kind]


class _SpoilingAlliance(WrappedAlliance):
    """An alliance whose networks spoil maps."""

    def __init__(self, alliance: AllianceLike, source: _SpoiledSource, seed: int) -> None:
        super().__init__(alliance)
        self._source, self._seed = source, seed

    def agent(self, name: str) -> _SpoilingEncoder:
        return _SpoilingEncoder(self._alliance.agent(name), self._source, self._seed)
