"""Correction of agents' poses by the boxes that each finds alone, as in CoAlign (Lu et al. 2023, section III-B).

The boxes of all agents that are near each other belong to one vehicle. A graph has a node for the pose of each agent and of each
vehicle, and an edge for each box: the pose of the vehicle, as the agent measures it. The poses that fit all boxes best are found by
the steps of Gauss and Newton. The paper weighs the boxes by uncertainties that its detector learns; the detectors here learn none,
so boxes are weighed by their scores. A kernel weakens boxes that do not fit, and a prior holds agents near their measured poses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heal.pose_correction.boxes import DEFAULT, BoxCorrectionConfig, Indices, PlacedBoxes, SeenBoxes, half_turn, vehicles_of
from heal.pose_correction.motions import motion_of, solve
from heal.types import BoolMask, Float64


def motions_by_boxes(
    seen: Sequence[SeenBoxes],
    frame_SE3_agents: Sequence[Float64],
    ego_first: bool,
    config: BoxCorrectionConfig = DEFAULT,
) -> list[Float64] | None:
    """Estimate the motions that correct the agents' poses in a common frame.

    In each round the boxes are grouped anew, within a shorter reach, after the correction so far.

    Args:
        seen: the boxes of every agent.
        frame_SE3_agents: (4, 4) of every agent as measured, maps the agent's coordinates into the common frame.
        ego_first: whether the first agent is the ego, whose pose is fixed. Otherwise all agents move.
        config: constants.

    Returns:
        For each agent a motion (4, 4) within the frame; None where the boxes give no clear evidence of an error.
    """
    boxes, errors = PlacedBoxes.of(seen, frame_SE3_agents, config), np.zeros((len(seen), 3))
    free = np.repeat(np.arange(len(seen)) >= ego_first, 3)
    for reach_m in config.reach_m:
        graph = BoxGraph.of(boxes, errors, reach_m, config)
        errors = graph.settle(errors, free)
    graph = graph.between(graph.shared(errors) >= config.min_shared)
    errors = graph.settle(np.where(graph.taking_part()[:, None], errors, 0.0), free)
    gain = (graph.cost(np.zeros_like(errors)) - graph.cost(errors)) / 2
    if gain < config.min_gain * max(graph.taking_part().sum() - 1, 1):
        return None
    return [motion_of(error, centre_m) for error, centre_m in zip(errors, boxes.centres_m, strict=True)]


@dataclass(frozen=True)
class BoxGraph:
    """The graph of n agents and K vehicles with M boxes as edges.

    For given poses of the agents, the best pose of a vehicle is the mean of its boxes; so the vehicles' nodes are eliminated.

    Attributes:
        boxes: the edges.
        vehicles: (M,) index of each box's vehicle.
        config: constants.
    """

    boxes: PlacedBoxes
    vehicles: Indices
    config: BoxCorrectionConfig

    @staticmethod
    def of(boxes: PlacedBoxes, errors: Float64, reach_m: float, config: BoxCorrectionConfig) -> BoxGraph:
        """Group the boxes, corrected by errors (n, 3), and leave out those that no other agent has found."""
        turned_rad = math.radians(config.most_turned_deg)
        vehicles = vehicles_of(boxes.corrected(errors), boxes.owners, reach_m, turned_rad)
        return BoxGraph(boxes.select(vehicles >= 0), vehicles[vehicles >= 0], config)

    def between(self, chosen: BoolMask) -> BoxGraph:
        """Keep only the boxes of chosen agents (n,), and of their vehicles those that two of them have found."""
        kept = chosen[self.boxes.owners]
        _, vehicles, counts = np.unique(self.vehicles[kept], return_inverse=True, return_counts=True)
        twice = counts[vehicles] > 1
        _, numbers = np.unique(vehicles[twice], return_inverse=True)
        return BoxGraph(self.boxes.select(np.flatnonzero(kept)[twice]), numbers, self.config)

    def taking_part(self) -> BoolMask:
        """Return (n,) whether an agent shares a vehicle with another one."""
        taking_part = np.zeros(len(self.boxes.centres_m), np.bool_)
        taking_part[self.boxes.owners] = True
        return taking_part

    def shared(self, errors: Float64) -> Float64:
        """Return (n,) how many boxes of each agent agree with those of other agents, by their weights."""
        weights, _ = self._fit(errors)
        return np.bincount(self.boxes.owners, weights, len(errors)).astype(np.float64, copy=False)

    def cost(self, errors: Float64) -> float:
        """Return twice the negative logarithm of the likelihood of the boxes, for errors (n, 3), up to a constant."""
        _, off = self._fit(errors)
        squares = (off**2 * self.boxes.precisions).sum(axis=1)
        return float((self.config.kernel * np.log1p(squares / self.config.kernel)).sum() + (errors**2 * self._prior()).sum())

    def settle(self, errors: Float64, free: BoolMask) -> Float64:
        """Return the errors (n, 3) after all steps of a round; arguments as for `step`."""
        for _ in range(self.config.steps):
            errors = self.step(errors, free)
        return errors

    def step(self, errors: Float64, free: BoolMask) -> Float64:
        """Return the errors (n, 3) of yaw, x and y after a step of Gauss and Newton; those that are not `free` (3 n,) stay."""
        weights, off = self._fit(errors)
        slopes = self._slopes(errors)
        precisions = self.boxes.precisions * weights[:, None]
        information, pull = np.diag(np.tile(self._prior(), len(errors))), -(errors * self._prior()).ravel()
        for axis in range(3):
            slope = slopes[:, axis] - self._means(slopes[:, axis], precisions[:, axis])[self.vehicles]
            weighted = slope * precisions[:, axis, None]
            information = information + weighted.T @ slope
            pull = pull - weighted.T @ off[:, axis]
        change = np.zeros(errors.size)
        change[free] = solve(information[np.ix_(free, free)], pull[free])
        moved: Float64 = errors + change.reshape(-1, 3)
        return moved

    def _fit(self, errors: Float64) -> tuple[Float64, Float64]:
        """Return the weight (M,) of each box, and how far its x, y and yaw (M, 3) are from those of its vehicle."""
        places = self.boxes.corrected(errors)
        _, first = np.unique(self.vehicles, return_index=True)
        off = places - places[first][self.vehicles]
        off[:, 2] = half_turn(off[:, 2])
        weights = np.ones(len(off))
        for _ in range(3):  # the vehicle's pose is a mean of its boxes, weighted by how well they fit
            means = [self._means(off[:, axis, None], self.boxes.precisions[:, axis] * weights) for axis in range(3)]
            rest = off - np.concatenate(means, axis=1)[self.vehicles]
            weights = 1 / (1 + (rest**2 * self.boxes.precisions).sum(axis=1) / self.config.kernel)
        return weights, rest

    def _means(self, values: Float64, weights: Float64) -> Float64:
        """Return the weighted means (K, D) of values (M, D) over the boxes of each vehicle."""
        count = int(self.vehicles.max(initial=-1)) + 1
        members = np.zeros((count, len(values)))
        members[self.vehicles, np.arange(len(values))] = weights
        means: Float64 = members @ values / members.sum(axis=1, keepdims=True)
        return means

    def _slopes(self, errors: Float64) -> Float64:
        """Return the derivatives (M, 3, 3 n) of each box's x, y and yaw by the errors of all agents in yaw, x and y."""
        x, y = self.boxes.turned_arms(errors).T
        own = np.broadcast_to([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]], (len(x), 3, 3)).copy()
        own[:, 0, 0], own[:, 1, 0] = -y, x
        slopes = np.zeros((len(x), 3, len(errors), 3))
        slopes[np.arange(len(x)), :, self.boxes.owners] = own
        return slopes.reshape(len(x), 3, 3 * len(errors))

    def _prior(self) -> Float64:
        """Return (3,) the precision of an agent's error in yaw, x and y."""
        spreads = self.config.spread_m * np.array([math.radians(self.config.deg_per_m), 1.0, 1.0])
        return spreads**-2.0
