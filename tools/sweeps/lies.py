"""Lies that a sender can tell: about its pose, by its feature map, or by the scales of its map; each has a name in `LIES`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from heal.fusion.interface import AgentLevels
from heal.grid import BevGrid
from heal.message.message import Message
from heal.se3 import inverse_SE3, pose_to_SE3
from heal.tools.sweeps import map_lies, scale_lies
from heal.tools.sweeps.learned_lies import learned
from heal.tools.sweeps.patches import Patches
from heal.tools.sweeps.scale_lies import ScaleLie
from heal.training.partners import blinded
from heal.types import AgentFrame, Float64, Split

OLD_TICKS = 20
"""Age of a replayed map in ticks, 2 s."""

_JUMP_M = 8.0


@dataclass(frozen=True)
class Moment:
    """What a liar knows in a tick.

    Attributes:
        frame: its own measurements.
        features: (1, C, ny, nx) its own feature map.
        before: its own measurements and map `OLD_TICKS` ago.
        other: the map of another agent in this tick; its own where there is none.
        trunk: computes the scales of a map by the base's weights, which the liar knows.
        grid: of the maps.
        generator: of random numbers, the same for a liar in a tick of every run.
        place: of numbers that stay the same for a liar in all ticks.
    """

    frame: AgentFrame
    features: Tensor
    before: Callable[[], tuple[AgentFrame, Tensor]]
    other: Callable[[], Tensor]
    trunk: Callable[[Tensor], AgentLevels]
    grid: BevGrid
    generator: np.random.Generator
    place: np.random.Generator

    @cached_property
    def patches(self) -> Patches:
        """Where vehicles are on the liar's map, and where there is empty ground."""
        corners = self.frame.objects.world_corners.reshape(-1, 8, 3).mean(axis=1)
        agent_SE3_world = inverse_SE3(self.frame.world_SE3_agent)
        centres_m = corners @ agent_SE3_world[:3, :3].T + agent_SE3_world[:3, 3]
        return Patches.of(centres_m[:, :2], self.grid, self.place)


Told = tuple[AgentFrame, Tensor]
"""The frame and the feature map (1, C, ny, nx) that a liar sends instead of its own."""


@dataclass(frozen=True)
class Lie:
    """One way to lie; under split=pyramid by the scales, if the lie has a way to.

    Attributes:
        tell: returns the frame and the feature map that the liar packs instead of its own. Under split=pyramid the liar computes
            the scales of the map that it claims.
        scales: changes the scales (C, ny, nx) and scores (ny, nx) of the liar's message, which exist under split=pyramid alone.
    """

    tell: Callable[[Moment], Told] | None = None
    scales: ScaleLie | None = None

    def told(self, moment: Moment, split: Split) -> Told:
        """Return the frame and the map that the liar packs."""
        honest = moment.frame, moment.features
        return honest if self.tell is None or (self.scales is not None and split == "pyramid") else self.tell(moment)

    def spoiled(self, moment: Moment, message: Message) -> Message:
        """Return what the liar sends in place of the message that it has packed."""
        if self.scales is None or message.split != "pyramid":
            return message
        maps, scores = self.scales(message.maps, message.scores, moment.patches)
        return replace(message, maps=tuple(maps), scores=tuple(scores))


def _of_map(change: Callable[[Tensor, Moment], Tensor]) -> Lie:
    return Lie(lambda moment: (moment.frame, change(moment.features, moment)))


def _of_map_or_scales(change: Callable[[Tensor], Tensor]) -> Lie:
    """Return a lie that changes the feature map, or each scale: from the map, the trunk would make scores that no message holds."""

    def scales(maps: scale_lies.Levels, scores: scale_lies.Levels, patches: Patches) -> tuple[scale_lies.Levels, scale_lies.Levels]:
        return [change(torch.from_numpy(np.array(level))[None])[0].numpy() for level in maps], scores

    return Lie(_of_map(lambda features, _: change(features)).tell, scales)


def _times(factor: float) -> Lie:
    return _of_map(lambda features, _: features * factor)


def _of_pose(change: Callable[[Float64, Moment], Float64]) -> Lie:
    def tell(moment: Moment) -> Told:
        measured = change(moment.frame.world_SE3_agent_measured, moment)
        return replace(moment.frame, world_SE3_agent_measured=measured), moment.features

    return Lie(tell)


def _shifted(x_m: float) -> Lie:
    """Return a pose that is off along the world's x axis: several liars move together."""
    return _of_pose(lambda pose, _: pose_to_SE3([x_m, 0, 0, 0, 0, 0]) @ pose)


def _jumping(pose: Float64, moment: Moment) -> Float64:
    x_m, y_m = moment.generator.uniform(-_JUMP_M, _JUMP_M, 2)
    return np.asarray(pose_to_SE3([x_m, y_m, 0, 0, 0, 0]) @ pose)


def _replayed(moment: Moment, at_old_pose: bool) -> Told:
    frame, features = moment.before()
    pose = (frame if at_old_pose else moment.frame).world_SE3_agent_measured
    return replace(moment.frame, world_SE3_agent_measured=pose, lidar=frame.lidar, cameras=frame.cameras), features


def _blind(moment: Moment) -> Told:
    return replace(blinded(moment.frame), objects=moment.frame.objects), torch.zeros_like(moment.features)


LIES: Mapping[str, Lie] = {
    "times 3": _times(3.0),
    "times 10": _times(10.0),
    "times 100": _times(100.0),
    "times 1e30": Lie(_times(1e30).tell, scale_lies.times(1e30)),
    "times -1": _times(-1.0),
    "noise": _of_map(lambda features, moment: map_lies.noise(features, moment.generator)),
    "blank": _times(0.0),
    "blind": Lie(_blind),
    "not a number": _of_map_or_scales(lambda maps: map_lies.one_cell(maps, math.nan)),
    "infinite": _of_map_or_scales(lambda maps: map_lies.one_cell(maps, math.inf)),
    "another's map": _of_map(lambda _, moment: moment.other()),
    "mirrored": _of_map(lambda features, _: features.flip(-2)),
    "channels permuted": _of_map(lambda features, moment: map_lies.permuted(features, moment.place)),
    "constant offset": _of_map(lambda features, _: map_lies.offset(features)),
    "some signs flipped": _of_map(lambda features, _: map_lies.flipped(features)),
    "replay": Lie(lambda moment: _replayed(moment, at_old_pose=True)),
    "replay, new pose": Lie(lambda moment: _replayed(moment, at_old_pose=False)),
    "pose 2 m off": _shifted(2.0),
    "pose 5 m off": _shifted(5.0),
    "yaw 30 degrees off": _of_pose(lambda pose, _: pose @ pose_to_SE3([0, 0, 0, 0, 30, 0])),
    "jumping pose": _of_pose(_jumping),
    "cars planted": _of_map(lambda features, moment: map_lies.planted(features, moment.patches)),
    "cars planted, times 5": _of_map(lambda features, moment: map_lies.planted(features, moment.patches, 5.0)),
    "cars erased": _of_map(lambda features, moment: map_lies.erased(features, moment.patches)),
    "learned": _of_map(lambda features, moment: learned(features, moment.trunk, moment.patches)),
    "scales times 10": Lie(scales=scale_lies.times(10.0)),
    "scales times -1": Lie(scales=scale_lies.times(-1.0)),
    "times -5 at the cars, score 1": Lie(scales=scale_lies.negated_at_cars),
    "blank, score 1": Lie(scales=scale_lies.blank),
    "score 1": Lie(scales=scale_lies.sure),
    "cars planted, score 1": Lie(scales=scale_lies.planted),
}
"""The lies by name. The frames of other agents and what the road looks like are as they are; the liar knows all vehicles."""

TOGETHER = (
    "times 10",
    "times -1",
    "noise",
    "pose 5 m off",
    "cars planted",
    "cars erased",
    "learned",
    "times -5 at the cars, score 1",
)
"""Lies that two senders of three tell together: off in the same direction, with vehicles planted or erased by both."""


def lies_of(names: Iterable[str], split: Split) -> list[str]:
    """Return those of the lies that can be told under a split."""
    return [name for name in names if LIES[name].tell is not None or split == "pyramid"]
