"""Correcting agents' poses by what several of them see: the peaks of their foreground scores are brought to lie on each other.

Agents are wrong about where they are, and their peaks about where a vehicle is. How far the peaks may be off is known; how far the
poses are off, the peaks tell. Where that may as well be nothing, poses stay as they are; otherwise all agents are moved at once, in
the plane, to where they are likeliest to be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from heal.grid import BevGrid
from heal.se3 import inverse_SE3, pose_to_SE3
from heal.types import Float64

Indices = npt.NDArray[np.intp]
_TINY = 1e-12
# Pairs that weigh no more, in 1 / square metres, cost time and change nothing.
_LIGHT = 1e-3


@dataclass(frozen=True)
class AlignmentConfig:
    """What peaks are, how well they are placed, and how far poses may be off. Spreads are standard deviations in x and in y.

    The peaks' spreads are those of the built-in town's agents, with LiDARs as with cameras. They do not depend on the type: a type
    that is less sure scores less.

    Attributes:
        min_score: a peak's foreground score, at least.
        window_m: a peak is the highest cell within this in x and in y, and its place the centroid of what is there.
        max_peaks: of an agent, the highest.
        sharp_m: spread of the place of a peak that scores 1.
        vague_m: what a score of 0 would add to that; less with the score, linearly.
        reach_m: peaks that are farther apart than this in x or in y, by the measured poses, are not of one vehicle.
        scales_m: by about how much two peaks of one vehicle may miss each other, in each round of the search.
        spread_m: of the poses' errors, during the search.
        spreads_m: of the poses' errors, as they may turn out to be.
        deg_per_m: spread of the error in yaw for one metre in x and in y.
        min_shared: an agent counts where its peaks speak by at least this, as a natural logarithm, for being those of the others,
            against being near them by chance; so a sender of noise moves nobody.
        min_log_odds: poses are corrected where the peaks speak by at least this, likewise, for errors against none.
    """

    min_score: float = 0.2
    window_m: float = 1.6
    max_peaks: int = 40
    sharp_m: float = 0.15
    vague_m: float = 1.0
    reach_m: float = 5.0
    scales_m: tuple[float, ...] = (1.6, 1.3, 1.0, 0.7, 0.5, 0.5)
    spread_m: float = 0.8
    spreads_m: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2)
    deg_per_m: float = 1.0
    min_shared: float = 1.0
    min_log_odds: float = 3.0


DEFAULT = AlignmentConfig()


@dataclass(frozen=True)
class Peaks:
    """Where an agent sees vehicles.

    Attributes:
        places_m: (N, 2) float64 x and y in the agent's frame.
        scores: (N,) float64 in [0, 1].
    """

    places_m: Float64
    scores: Float64


def find_peaks(scores: Tensor, grid: BevGrid, config: AlignmentConfig = DEFAULT) -> Peaks:
    """The peaks of a foreground map (1, 1, ny, nx) over the whole of `grid`, the highest first."""
    heights = scores[0, 0].detach().cpu().double().numpy()
    ny, nx = heights.shape
    cell_m = np.array([grid.length_x_m / nx, grid.length_y_m / ny])
    half = max(1, round(config.window_m / float(cell_m.max())))
    padded = np.zeros((ny + 2 * half, nx + 2 * half))
    padded[half:-half, half:-half] = np.minimum(heights, 1.0)
    cells = np.flatnonzero(padded >= config.min_score)
    step = np.arange(-half, half + 1)
    around = padded.ravel()[cells[:, None] + (step[:, None] * padded.shape[1] + step).ravel()]
    # Of equals the first one: scores that were sent in few bits often are.
    highest = np.flatnonzero(around.argmax(axis=1) == step.size**2 // 2)
    highest = highest[np.argsort(-padded.ravel()[cells[highest]], kind="stable")][: config.max_peaks]
    rows, columns = np.divmod(cells[highest], padded.shape[1])
    # The centroid of the squares, which keep neighbours out.
    squares = around[highest].reshape(-1, step.size, step.size) ** 2
    off_x, off_y = (squares.sum(axis=along) @ step / squares.sum(axis=(1, 2)) for along in (1, 2))
    places = np.stack([columns + off_x, rows + off_y], axis=1) - half + 0.5 - np.array([nx, ny]) / 2
    return Peaks(places * cell_m, padded[rows, columns])


def aligned_poses(peaks: Sequence[Peaks], agent_SE3_ego: Sequence[Float64], config: AlignmentConfig = DEFAULT) -> list[Float64]:
    """Correct poses relative to the ego.

    Agents that see little in common with the ego are helped by others that see more. One that sees nothing in common with anyone
    moves with them as far as they agree that it is the ego that is wrong.

    Args:
        peaks: of every agent, the ego first.
        agent_SE3_ego: (4, 4) of each as measured, maps ego coordinates into the agent's frame.
        config: constants.

    Returns:
        The poses in the same order; the very same ones where the peaks do not speak clearly for an error.
    """
    moves = corrections(peaks, [inverse_SE3(pose) for pose in agent_SE3_ego], config)
    if moves is None:
        return list(agent_SE3_ego)
    own, *others = moves
    return [agent_SE3_ego[0], *(pose @ inverse_SE3(move) @ own for pose, move in zip(agent_SE3_ego[1:], others, strict=True))]


def corrections(
    peaks: Sequence[Peaks], frame_SE3_agents: Sequence[Float64], config: AlignmentConfig = DEFAULT
) -> list[Float64] | None:
    """How agents are to be moved in a frame in which they have been placed by their measured poses.

    Two agents' peaks are taken to be of one vehicle the more, the nearer they are (a Welsch kernel, which narrows from round to
    round, so that what has moved meanwhile, or is seen by one alone, pulls at nobody). Least squares with a prior around the
    measured poses moves all agents at once. The prior's spread is then averaged over, by how likely each makes the peaks.

    Args:
        peaks: of every agent.
        frame_SE3_agents: (4, 4) of each, as measured.
        config: constants.

    Returns:
        For each agent a motion (4, 4) within the frame; None where the peaks do not speak clearly for any error.
    """
    scene = _Scene.of(peaks, frame_SE3_agents, config)
    errors: Float64 = np.zeros((len(peaks), 3))
    prior = np.diag(np.tile(_units(config) * config.spread_m, len(peaks)) ** -2.0)
    for scale_m in config.scales_m:
        information, vector = scene.equations(errors, scale_m)
        errors = _solved(information + prior, vector).reshape(-1, 3)
    scene = scene.among(scene.shared(errors, config) >= config.min_shared)
    belief = _Belief.of(*scene.equations(errors, config.scales_m[-1]), config)
    log_odds = belief.log_odds()
    if log_odds.max() < config.min_log_odds:
        return None
    odds = np.exp(log_odds - log_odds.max())
    return [_motion(*each) for each in zip(belief.errors(odds / odds.sum()), scene.centres_m, strict=True)]


@dataclass(frozen=True)
class _Belief:
    """What the peaks say of n agents' errors, and what follows from it for each spread that errors may have.

    Attributes:
        axes: (3 n, 3 n) directions, in columns, of which the peaks say something independently; as long as errors of spread 1 m.
        precisions: (3 n,) how exactly, along each.
        pulls: (3 n,) precision times what they say, along each.
        spreads_m: (S,) of errors.
    """

    axes: Float64
    precisions: Float64
    pulls: Float64
    spreads_m: Float64

    @staticmethod
    def of(information: Float64, vector: Float64, config: AlignmentConfig) -> _Belief:
        """From normal equations (3 n, 3 n) and (3 n,) for radians and metres."""
        units = np.tile(_units(config), len(vector) // 3)
        precisions, axes = (part.numpy() for part in torch.linalg.eigh(torch.from_numpy(units[:, None] * information * units)))
        axes = units[:, None] * axes
        return _Belief(axes, precisions.clip(min=0.0), axes.T @ vector, np.array(config.spreads_m))

    def errors(self, weights: Float64) -> Float64:
        """(n, 3) yaw, x and y: the mean of the likeliest errors for every spread, with weights (S,)."""
        along = weights @ (self.pulls / (self.precisions + self.spreads_m[:, None] ** -2))
        return (self.axes @ along).reshape(-1, 3)

    def log_odds(self) -> Float64:
        """(S,) how much likelier errors of each spread make the peaks than none would."""
        gains = self.pulls**2 / (self.precisions + self.spreads_m[:, None] ** -2)
        costs = np.log1p(self.precisions * self.spreads_m[:, None] ** 2)
        odds: Float64 = (gains - costs).sum(axis=1) / 2
        return odds


@dataclass(frozen=True)
class _Scene:
    """Peaks of n agents in a common frame, by their measured poses, and which of them may be of one vehicle.

    Attributes:
        owners: (N,) whose each peak is.
        arms_m: (N, 2) from its owner to it, along the common axes.
        centres_m: (n, 2) where the agents are.
        precisions: (N,) of its place in x and in y, 1 / square metres.
        scores: (N,) of it.
        firsts: (M,) one peak of every pair.
        seconds: (M,) the other, of another agent.
    """

    owners: Indices
    arms_m: Float64
    centres_m: Float64
    precisions: Float64
    scores: Float64
    firsts: Indices
    seconds: Indices

    @staticmethod
    def of(peaks: Sequence[Peaks], frame_SE3_agents: Sequence[Float64], config: AlignmentConfig) -> _Scene:
        """Place the peaks and pair them."""
        owners = np.repeat(np.arange(len(peaks)), [len(one.scores) for one in peaks])
        centres_m = np.stack([pose[:2, 3] for pose in frame_SE3_agents])
        arms_m = np.concatenate([one.places_m @ pose[:2, :2].T for one, pose in zip(peaks, frame_SE3_agents, strict=True)])
        scores = np.concatenate([one.scores for one in peaks])
        firsts, seconds = _near(centres_m[owners] + arms_m, config.reach_m)
        apart = owners[firsts] != owners[seconds]
        precisions = (config.sharp_m + config.vague_m * (1 - scores)) ** -2
        return _Scene(owners, arms_m, centres_m, precisions, scores, firsts[apart], seconds[apart])

    def among(self, wanted: npt.NDArray[np.bool_]) -> _Scene:
        """The scene with the pairs between some of the agents (n,) alone."""
        kept = wanted[self.owners[self.firsts]] & wanted[self.owners[self.seconds]]
        return replace(self, firsts=self.firsts[kept], seconds=self.seconds[kept])

    def shared(self, errors: Float64, config: AlignmentConfig) -> Float64:
        """(n,) log-likelihood of each agent's peaks where errors (n, 3) are made good, over that of peaks strewn at random."""
        scale_m = config.scales_m[-1]
        gaps_m, variances = self._gaps(self._arms(errors), errors), self._variances()
        squares = (gaps_m**2).sum(axis=1)
        alike = self._alike(squares, scale_m)
        at_random = self._alike(np.zeros(1), scale_m) * 2 * np.pi * (variances + scale_m**2) / (2 * config.reach_m) ** 2
        met, expected, missed = (self._of_agents(each, len(errors)) for each in (alike, at_random, alike * squares / 2 / variances))
        return met * np.log((met + _TINY) / (expected + _TINY)) - met + expected - missed

    def equations(self, errors: Float64, scale_m: float) -> tuple[Float64, Float64]:
        """What the pairs say of all errors: normal equations (3 n, 3 n) and (3 n,), linear around the present errors (n, 3)."""
        arms_m = self._arms(errors)
        gaps_m = self._gaps(arms_m, errors)
        weights = self._weights((gaps_m**2).sum(axis=1), scale_m)
        heavy = weights > _LIGHT
        firsts, seconds, weights, gaps_m = self.firsts[heavy], self.seconds[heavy], weights[heavy], gaps_m[heavy]
        # How a peak's place changes with its owner's yaw, x and y. A pair ties two owners to each other, and each to its own prior.
        count = len(errors)
        slopes = np.zeros((len(arms_m), 2, 3))
        slopes[:, 0, 0], slopes[:, 1, 0], slopes[:, 0, 1], slopes[:, 1, 2] = -arms_m[:, 1], arms_m[:, 0], 1.0, 1.0
        turned = slopes.transpose(0, 2, 1)
        stiff = _summed(firsts, weights, len(slopes)) + _summed(seconds, weights, len(slopes))
        own = _blocks(self.owners, self.owners, stiff[:, None, None] * (turned @ slopes), count)
        tied = _blocks(
            self.owners[firsts], self.owners[seconds], weights[:, None, None] * (turned[firsts] @ slopes[seconds]), count
        )
        information = own - tied - tied.T
        pulls = (weights[:, None] * gaps_m)[:, :, None]
        unknowns = 3 * self.owners[:, None] + np.arange(3)
        vector = _summed(unknowns[seconds], turned[seconds] @ pulls, errors.size)
        vector -= _summed(unknowns[firsts], turned[firsts] @ pulls, errors.size)
        return information, information @ errors.ravel() + vector

    def _arms(self, errors: Float64) -> Float64:
        """(N, 2) from each peak's owner to it, once yaws are made good."""
        cosines, sines = np.cos(errors[self.owners, 0]), np.sin(errors[self.owners, 0])
        x, y = self.arms_m.T
        return np.stack([cosines * x - sines * y, sines * x + cosines * y], axis=1)

    def _gaps(self, arms_m: Float64, errors: Float64) -> Float64:
        """(M, 2) between the two peaks of every pair."""
        places_m = self.centres_m[self.owners] + errors[self.owners, 1:] + arms_m
        gaps_m: Float64 = places_m[self.firsts] - places_m[self.seconds]
        return gaps_m

    def _variances(self) -> Float64:
        """(M,) of the gap of a pair that is of one vehicle, square metres."""
        return 1 / self.precisions[self.firsts] + 1 / self.precisions[self.seconds]

    def _alike(self, squares: Float64, scale_m: float) -> Float64:
        """(M,) how far each pair is taken to be of one vehicle, by its squared gap."""
        alike: Float64 = self.scores[self.firsts] * self.scores[self.seconds]
        return alike * np.exp(-squares / 2 / (scale_m**2 + self._variances()))

    def _weights(self, squares: Float64, scale_m: float) -> Float64:
        """(M,) precision of each pair's gap. Where more agents see one vehicle, each of its pairs tells less that is new."""
        first, second, count = self.precisions[self.firsts], self.precisions[self.seconds], len(self.scores)
        alike = self._alike(squares, scale_m)
        total = self.precisions + _summed(self.firsts, alike * second, count) + _summed(self.seconds, alike * first, count)
        weights: Float64 = 2 * alike * first * second / (total[self.firsts] + total[self.seconds])
        return weights

    def _of_agents(self, values: Float64, count: int) -> Float64:
        """(count,) the sum of what belongs to an agent's pairs (M,)."""
        return sum((_summed(self.owners[peaks], values, count) for peaks in (self.firsts, self.seconds)), np.zeros(count))


def _near(places_m: Float64, reach_m: float) -> tuple[Indices, Indices]:
    """Every two of (N, 2) places that are at most so far apart in x and in y; sorted, so that most are never compared."""
    order = np.argsort(places_m[:, 0], kind="stable")
    x, y = places_m[order].T
    counts = np.searchsorted(x, x + reach_m, side="right") - np.arange(1, len(x) + 1)
    firsts = np.repeat(np.arange(len(x)), counts)
    seconds = np.arange(1, len(firsts) + 1) + firsts - np.repeat(np.cumsum(counts) - counts, counts)
    close = np.abs(y[firsts] - y[seconds]) < reach_m
    return order[firsts[close]], order[seconds[close]]


def _solved(matrix: Float64, vector: Float64) -> Float64:
    """By torch, which keeps to the threads that it was given; NumPy's solvers take all cores."""
    solution: Float64 = torch.linalg.solve(torch.from_numpy(matrix), torch.from_numpy(vector)).numpy()
    return solution


def _summed(places: Indices, values: Float64, size: int) -> Float64:
    """(size,) the sums of what belongs to each place."""
    sums: Float64 = np.bincount(places.ravel(), values.ravel(), size).astype(np.float64, copy=False)
    return sums


def _blocks(rows: Indices, columns: Indices, blocks: Float64, count: int) -> Float64:
    """(3 n, 3 n) of blocks (K, 3, 3) that belong to agents (K,) and (K,) of n, summed where these are the same."""
    places = 9 * (rows * count + columns)[:, None] + np.arange(9)
    by_agents = _summed(places, blocks, 9 * count**2).reshape(count, count, 3, 3)
    square: Float64 = by_agents.transpose(0, 2, 1, 3).reshape(3 * count, 3 * count)
    return square


def _units(config: AlignmentConfig) -> Float64:
    """(3,) standard deviations of yaw, x and y per metre of spread."""
    return np.array([math.radians(config.deg_per_m), 1.0, 1.0])


def _motion(error: Float64, centre_m: Float64) -> Float64:
    """(4, 4) a turn by an error's yaw around a point, and a shift by its x and y."""
    motion = pose_to_SE3([0.0, 0.0, 0.0, 0.0, math.degrees(error[0]), 0.0])
    motion[:2, 3] = centre_m + error[1:] - motion[:2, :2] @ centre_m
    return motion
