"""The boxes that agents find alone, in one frame, and the groups of them that belong to one vehicle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heal.box_corners import YAW, X, Y
from heal.detection.detections import Detections
from heal.pose_correction.peak_pairs import pairs_within
from heal.types import Float64

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class BoxCorrectionConfig:
    """Constants of the correction by boxes. Spreads are standard deviations; those in metres hold in x and in y.

    Attributes:
        min_score: least score of a box.
        max_boxes: number of boxes of an agent; the best are kept.
        sharp_m: spread of the place of a box with score 1.
        vague_m: the amount by which the spread is greater at score 0; it falls linearly with the score.
        sharp_deg: spread of the yaw of a box with score 1.
        vague_deg: the amount by which it is greater at score 0.
        reach_m: boxes that are farther apart than this, after the correction so far, do not belong to one vehicle; in each round.
        most_turned_deg: boxes whose yaws differ by more than this, up to half turns, do not belong to one vehicle.
        steps: number of steps of Gauss and Newton in each round.
        kernel: squared distance of a box from its vehicle, in spreads, at which the box counts half.
        spread_m: spread of the poses' errors.
        deg_per_m: spread of the error in yaw for a spread of one metre in x and in y.
        min_shared: an agent takes part if so many of its boxes, by their weights, agree with those of other agents.
        min_gain: poses are corrected if the logarithm of the boxes' likelihood rises by at least this for every agent.
    """

    min_score: float = 0.25
    max_boxes: int = 40
    sharp_m: float = 0.15
    vague_m: float = 1.0
    sharp_deg: float = 2.0
    vague_deg: float = 20.0
    reach_m: tuple[float, ...] = (4.0, 3.0, 2.0, 1.5)
    most_turned_deg: float = 25.0
    steps: int = 3
    kernel: float = 6.0
    spread_m: float = 0.8
    deg_per_m: float = 1.0
    min_shared: float = 1.5
    min_gain: float = 3.0


DEFAULT = BoxCorrectionConfig()


@dataclass(frozen=True)
class SeenBoxes:
    """The boxes that an agent finds alone.

    Attributes:
        places: (N, 3) float64 x and y in metres and yaw in radians, in the agent's frame.
        scores: (N,) float64 in [0, 1].
    """

    places: Float64
    scores: Float64

    @staticmethod
    def of(detections: Detections, config: BoxCorrectionConfig = DEFAULT) -> SeenBoxes:
        """Take the best boxes of detections in the agent's frame."""
        scores = detections.scores.detach().cpu().double().numpy()
        kept = np.flatnonzero(scores >= config.min_score)[: config.max_boxes]
        boxes = detections.select(kept.tolist()).boxes.cpu().double().numpy()
        return SeenBoxes(boxes[:, [X, Y, YAW]], scores[kept])


@dataclass(frozen=True)
class PlacedBoxes:
    """The N boxes of n agents in a common frame, by the measured poses.

    Attributes:
        owners: (N,) index of each box's agent.
        arms_m: (N, 2) x and y of the vector from the agent to the box, in the common frame.
        centres_m: (n, 2) places of the agents.
        yaws: (N,) radians.
        precisions: (N, 3) precision of each box's x, y and yaw, in 1 / square metres and 1 / square radians.
    """

    owners: Indices
    arms_m: Float64
    centres_m: Float64
    yaws: Float64
    precisions: Float64

    @staticmethod
    def of(seen: Sequence[SeenBoxes], frame_SE3_agents: Sequence[Float64], config: BoxCorrectionConfig) -> PlacedBoxes:
        """Place the boxes of all agents."""
        owners = np.repeat(np.arange(len(seen)), [len(part.scores) for part in seen])
        arms = np.concatenate([part.places[:, :2] @ pose[:2, :2].T for part, pose in zip(seen, frame_SE3_agents, strict=True)])
        turns = np.array([math.atan2(pose[1, 0], pose[0, 0]) for pose in frame_SE3_agents])
        doubt = 1 - np.concatenate([part.scores for part in seen])
        spreads_m = config.sharp_m + config.vague_m * doubt
        spreads_rad = np.radians(config.sharp_deg + config.vague_deg * doubt)
        yaws = np.concatenate([part.places[:, 2] for part in seen]) + turns[owners]
        centres_m = np.stack([pose[:2, 3] for pose in frame_SE3_agents])
        return PlacedBoxes(owners, arms, centres_m, yaws, np.stack([spreads_m, spreads_m, spreads_rad], axis=1) ** -2.0)

    def select(self, kept: npt.NDArray[np.bool_] | Indices) -> PlacedBoxes:
        """Return some of the boxes."""
        return PlacedBoxes(self.owners[kept], self.arms_m[kept], self.centres_m, self.yaws[kept], self.precisions[kept])

    def turned_arms(self, errors: Float64) -> Float64:
        """Return the arms (N, 2) after correction of their agents' yaws; errors (n, 3) of yaw, x and y."""
        cosines, sines = np.cos(errors[self.owners, 0]), np.sin(errors[self.owners, 0])
        x, y = self.arms_m.T
        return np.stack([cosines * x - sines * y, sines * x + cosines * y], axis=1)

    def corrected(self, errors: Float64) -> Float64:
        """Return x, y and yaw (N, 3) of the boxes after correction of their agents' errors (n, 3) of yaw, x and y."""
        places_m = (self.centres_m + errors[:, 1:])[self.owners] + self.turned_arms(errors)
        return np.column_stack([places_m, self.yaws + errors[self.owners, 0]])


def half_turn(angles: Float64) -> Float64:
    """Return angles up to half turns, in [-pi / 2, pi / 2): a box that points backwards is in the right place."""
    turned: Float64 = (angles + math.pi / 2) % math.pi - math.pi / 2
    return turned


def vehicles_of(places: Float64, owners: Indices, reach_m: float, most_turned_rad: float) -> Indices:
    """Group boxes of different agents that are near each other, the nearest first; a vehicle has at most one box of an agent.

    Args:
        places: (N, 3) x, y and yaw of the boxes in a common frame.
        owners: (N,) index of each box's agent.
        reach_m: boxes that are farther apart are not of one vehicle.
        most_turned_rad: neither are boxes whose yaws differ by more, up to half turns.

    Returns:
        (N,) number of each box's vehicle, from 0 on; -1 for a box that no other agent has found.
    """
    firsts, seconds = pairs_within(places[:, :2].T, reach_m)
    off = places[firsts] - places[seconds]
    gaps_m = np.hypot(off[:, 0], off[:, 1])
    near = (gaps_m <= reach_m) & (np.abs(half_turn(off[:, 2])) <= most_turned_rad) & (owners[firsts] != owners[seconds])
    nearest = np.flatnonzero(near)[np.argsort(gaps_m[near], kind="stable")]
    groups = [_Group([box], {owner}) for box, owner in enumerate(owners.tolist())]
    for first, second in zip(firsts[nearest].tolist(), seconds[nearest].tolist(), strict=True):
        if groups[first].owners.isdisjoint(groups[second].owners):
            joined = groups[first].and_all(groups[second])
            for box in joined.boxes:
                groups[box] = joined
    vehicles = np.full(len(owners), -1)
    shared = {group.boxes[0]: group.boxes for group in groups if len(group.boxes) > 1}
    for number, boxes in enumerate(shared.values()):
        vehicles[boxes] = number
    return vehicles


@dataclass(frozen=True)
class _Group:
    """Boxes of one vehicle by their indices, and the agents that have found them."""

    boxes: list[int]
    owners: set[int]

    def and_all(self, other: _Group) -> _Group:
        """Return the boxes of both."""
        return _Group(sorted(self.boxes + other.boxes), self.owners | other.owners)
