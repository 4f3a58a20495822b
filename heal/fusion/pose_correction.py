"""Correction of agents' poses by the vehicles that several agents see, which are the peaks of the agents' foreground scores.

Measured poses have errors, and so have the places of peaks. The spread of the peaks' places is known; the spread of the poses'
errors is estimated from the peaks. Where the peaks fit the measured poses about as well as corrected poses, the poses stay as they
are. Otherwise all agents are moved at once, in the plane, to their most probable poses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from heal.grid import BevGrid
from heal.se3 import inverse_SE3, pose_to_SE3
from heal.types import Float64

Indices = npt.NDArray[np.intp]
# Added to both sides of a ratio, so that no logarithm is taken of zero.
_TINY = 1e-12
# Pairs of this weight or less, in 1 / square metres, cost time and change nothing.
_LEAST_WEIGHT = 1e-3


@dataclass(frozen=True)
class PoseCorrectionConfig:
    """Constants of the search for peaks and of the correction. Spreads are standard deviations in x and in y.

    The spreads of the peaks' places were measured on agents of the built-in town, with LiDARs and with cameras. They do not depend
    on the agent type: a type that is less certain gives lower scores.

    Attributes:
        min_score: least foreground score of a peak.
        window_m: a peak is the highest cell within this distance in x and in y; its place is the centroid of the scores there.
        max_peaks: number of peaks of an agent; the highest are kept.
        sharp_m: spread of the place of a peak with score 1.
        vague_m: the amount by which the spread is greater at score 0; it falls linearly with the score.
        reach_m: peaks that are farther apart than this in x or in y, by the measured poses, do not belong to one vehicle.
        scales_m: expected distance between two peaks of one vehicle, in each round of the search.
        spread_m: spread of the poses' errors, during the search.
        spreads_m: spreads of the poses' errors between which the final estimate averages.
        deg_per_m: spread of the error in yaw for a spread of one metre in x and in y.
        min_shared: an agent takes part if the log-likelihood ratio of its peaks, being the peaks of other agents against lying
            near them by chance, is at least this; so an agent that sends noise moves no other agent.
        min_log_odds: poses are corrected if the log-likelihood ratio of the peaks, with errors against without, is at least this.
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


DEFAULT = PoseCorrectionConfig()


@dataclass(frozen=True)
class Peaks:
    """The places at which an agent sees vehicles.

    Attributes:
        places_m: (N, 2) float64 x and y in the agent's frame.
        scores: (N,) float64 in [0, 1].
    """

    places_m: Float64
    scores: Float64


def find_peaks(scores: Tensor, grid: BevGrid, config: PoseCorrectionConfig = DEFAULT) -> Peaks:
    """Find the peaks of a foreground map (1, 1, ny, nx) that covers the whole of `grid`; the highest comes first."""
    heights = scores[0, 0].detach().cpu().double().numpy()
    ny, nx = heights.shape
    cell_m = np.array([grid.length_x_m / nx, grid.length_y_m / ny])
    half = max(1, round(config.window_m / float(cell_m.max())))
    padded = np.zeros((ny + 2 * half, nx + 2 * half))
    padded[half:-half, half:-half] = np.minimum(heights, 1.0)
    cells = np.flatnonzero(padded >= config.min_score)
    step = np.arange(-half, half + 1)
    windows = padded.ravel()[cells[:, None] + (step[:, None] * padded.shape[1] + step).ravel()]
    # Of equal scores in a window the first is the peak; scores that were sent with few bits are often equal.
    highest = np.flatnonzero(windows.argmax(axis=1) == step.size**2 // 2)
    highest = highest[np.argsort(-padded.ravel()[cells[highest]], kind="stable")][: config.max_peaks]
    rows, columns = np.divmod(cells[highest], padded.shape[1])
    # The centroid is weighted by the squares of the scores, which keeps neighbouring vehicles out.
    squares = windows[highest].reshape(-1, step.size, step.size) ** 2
    off_x, off_y = (squares.sum(axis=axis) @ step / squares.sum(axis=(1, 2)) for axis in (1, 2))
    places = np.stack([columns + off_x, rows + off_y], axis=1) - half + 0.5 - np.array([nx, ny]) / 2
    return Peaks(places * cell_m, padded[rows, columns])


def corrected_poses(
    peaks: Sequence[Peaks], agent_SE3_ego: Sequence[Float64], config: PoseCorrectionConfig = DEFAULT
) -> list[Float64]:
    """Correct the agents' poses relative to the ego.

    An agent that shares few vehicles with the ego is corrected through other agents that share more with both. An agent that shares
    no vehicle with any other agent moves with the others, as far as they agree that the error is the ego's.

    Args:
        peaks: of every agent, the ego first.
        agent_SE3_ego: (4, 4) of every agent as measured, maps ego coordinates into the agent's frame.
        config: constants.

    Returns:
        The poses in the same order; the same objects where the peaks give no clear evidence of an error.
    """
    motions = pose_corrections(peaks, [inverse_SE3(pose) for pose in agent_SE3_ego], config)
    if motions is None:
        return list(agent_SE3_ego)
    own, *others = motions
    return [agent_SE3_ego[0], *(pose @ inverse_SE3(motion) @ own for pose, motion in zip(agent_SE3_ego[1:], others, strict=True))]


def pose_corrections(
    peaks: Sequence[Peaks], frame_SE3_agents: Sequence[Float64], config: PoseCorrectionConfig = DEFAULT
) -> list[Float64] | None:
    """Estimate the motions that correct the agents' poses in a common frame.

    Two agents' peaks count as one vehicle with a weight that falls with the distance between them (a Welsch kernel). The kernel
    narrows from round to round, so that a vehicle that has moved meanwhile, or that only one agent sees, pulls no agent. Least
    squares with a prior around the measured poses moves all agents at once. At the end, the estimates for several spreads of the
    prior are averaged, weighted by the likelihood of the peaks under each spread.

    Args:
        peaks: of every agent.
        frame_SE3_agents: (4, 4) of every agent as measured, maps the agent's coordinates into the common frame.
        config: constants.

    Returns:
        For each agent a motion (4, 4) within the frame; None where the peaks give no clear evidence of an error.
    """
    pairing = _PeakPairs.of(peaks, frame_SE3_agents, config)
    errors: Float64 = np.zeros((len(peaks), 3))
    prior = np.diag(np.tile(_spreads_per_metre(config) * config.spread_m, len(peaks)) ** -2.0)
    for scale_m in config.scales_m:
        information, vector = pairing.normal_equations(errors, scale_m)
        errors = _solve(information + prior, vector).reshape(-1, 3)
    pairing = pairing.between(pairing.log_likelihood_ratios(errors, config) >= config.min_shared)
    posterior = _PosteriorOfErrors.of(*pairing.normal_equations(errors, config.scales_m[-1]), config)
    log_odds = posterior.log_odds()
    if log_odds.max() < config.min_log_odds:
        return None
    odds = np.exp(log_odds - log_odds.max())
    mean_errors = posterior.mean_errors(odds / odds.sum())
    return [_motion(error, centre_m) for error, centre_m in zip(mean_errors, pairing.centres_m, strict=True)]


@dataclass(frozen=True)
class _PosteriorOfErrors:
    """The Gaussian posterior of n agents' errors, for each of several spreads of the prior.

    Along the axes, the peaks' evidence on the errors is independent; so each spread's posterior costs a few sums.

    Attributes:
        axes: (3 n, 3 n) directions in columns, of the length of errors with a spread of 1 m.
        precisions: (3 n,) precision of the peaks' evidence along each axis.
        pulls: (3 n,) precision times the error that the peaks indicate, along each axis.
        spreads_m: (S,) spreads of the prior.
    """

    axes: Float64
    precisions: Float64
    pulls: Float64
    spreads_m: Float64

    @staticmethod
    def of(information: Float64, vector: Float64, config: PoseCorrectionConfig) -> _PosteriorOfErrors:
        """Find the axes of normal equations (3 n, 3 n) and (3 n,) for errors in radians and metres."""
        units = np.tile(_spreads_per_metre(config), len(vector) // 3)
        precisions, axes = (part.numpy() for part in torch.linalg.eigh(torch.from_numpy(units[:, None] * information * units)))
        axes = units[:, None] * axes
        return _PosteriorOfErrors(axes, precisions.clip(min=0.0), axes.T @ vector, np.array(config.spreads_m))

    def mean_errors(self, weights: Float64) -> Float64:
        """Average the most probable errors under every spread with weights (S,); return yaw, x and y (n, 3)."""
        along_axes = weights @ (self.pulls / (self.precisions + self.spreads_m[:, None] ** -2))
        return (self.axes @ along_axes).reshape(-1, 3)

    def log_odds(self) -> Float64:
        """Return (S,) the log-likelihood ratio of the peaks: errors with each spread against no errors."""
        gains = self.pulls**2 / (self.precisions + self.spreads_m[:, None] ** -2)
        costs = np.log1p(self.precisions * self.spreads_m[:, None] ** 2)
        odds: Float64 = (gains - costs).sum(axis=1) / 2
        return odds


@dataclass(frozen=True)
class _PeakPairs:
    """The N peaks of n agents in a common frame, by the measured poses, and the M pairs of peaks that may belong to one vehicle.

    The two peaks of a pair belong to different agents. The gap of a pair is the vector from its second peak to its first.

    Attributes:
        owners: (N,) index of each peak's agent.
        arms_m: (2, N) x and y of the vector from the peak's agent to the peak, in the common frame.
        centres_m: (n, 2) places of the agents.
        precisions: (N,) precision of the peak's place in x and in y, 1 / square metres.
        scores: (N,) score of the peak.
        firsts: (M,) index of each pair's first peak.
        seconds: (M,) index of each pair's second peak.
    """

    owners: Indices
    arms_m: Float64
    centres_m: Float64
    precisions: Float64
    scores: Float64
    firsts: Indices
    seconds: Indices

    @staticmethod
    def of(peaks: Sequence[Peaks], frame_SE3_agents: Sequence[Float64], config: PoseCorrectionConfig) -> _PeakPairs:
        """Place the peaks in the common frame and pair those that are near each other."""
        owners = np.repeat(np.arange(len(peaks)), [len(part.scores) for part in peaks])
        centres_m = np.stack([pose[:2, 3] for pose in frame_SE3_agents])
        arms_m = np.concatenate([part.places_m @ pose[:2, :2].T for part, pose in zip(peaks, frame_SE3_agents, strict=True)])
        scores = np.concatenate([part.scores for part in peaks])
        arms_m = np.ascontiguousarray(arms_m.T)
        firsts, seconds = _pairs_within(centres_m[owners].T + arms_m, config.reach_m)
        apart = owners[firsts] != owners[seconds]
        precisions = (config.sharp_m + config.vague_m * (1 - scores)) ** -2
        return _PeakPairs(owners, arms_m, centres_m, precisions, scores, firsts[apart], seconds[apart])

    def between(self, chosen: npt.NDArray[np.bool_]) -> _PeakPairs:
        """Keep only the pairs between chosen agents (n,)."""
        kept = chosen[self.owners[self.firsts]] & chosen[self.owners[self.seconds]]
        return replace(self, firsts=self.firsts[kept], seconds=self.seconds[kept])

    def log_likelihood_ratios(self, errors: Float64, config: PoseCorrectionConfig) -> Float64:
        """Return (n,) for each agent the log-likelihood of its peaks' distances to other agents' peaks, against chance.

        The distances are those after correction of the errors (n, 3); chance is a scatter of peaks at random places.
        """
        scale_m = config.scales_m[-1]
        gaps_m, variances = self._gaps(self._turned_arms(errors), errors), self.gap_variances
        squares = (gaps_m**2).sum(axis=0)
        matches = self._match_weights(squares, scale_m)
        by_chance = self._match_weights(np.zeros(1), scale_m) * 2 * np.pi * (variances + scale_m**2) / (2 * config.reach_m) ** 2
        per_pair = (matches, by_chance, matches * squares / 2 / variances)
        met, expected, missed = (self._sum_per_agent(values, len(errors)) for values in per_pair)
        return met * np.log((met + _TINY) / (expected + _TINY)) - met + expected - missed

    def normal_equations(self, errors: Float64, scale_m: float) -> tuple[Float64, Float64]:
        """Return the pairs' normal equations (3 n, 3 n) and (3 n,) for all errors, linearised around the present errors (n, 3)."""
        arms_m = self._turned_arms(errors)
        gaps_m = self._gaps(arms_m, errors)
        weights = self._gap_precisions((gaps_m**2).sum(axis=0), scale_m)
        heavy = np.flatnonzero(weights > _LEAST_WEIGHT)
        firsts, seconds, weights = self.firsts[heavy], self.seconds[heavy], weights[heavy]
        gaps_m = gaps_m.take(heavy, axis=1)
        # A pair couples two agents, and adds to each agent's own block.
        count, size = len(errors), arms_m.shape[1]
        stiffness = _sum_by_index(firsts, weights, size) + _sum_by_index(seconds, weights, size)
        own = _sum_of_products(self.owners, self.owners, stiffness, arms_m, arms_m, count)
        coupled = _sum_of_products(
            self.owners[firsts], self.owners[seconds], weights, arms_m.take(firsts, axis=1), arms_m.take(seconds, axis=1), count
        )
        information = own - coupled - coupled.T
        pulls = [weights * gap_m for gap_m in gaps_m]
        x, y = (_sum_by_index(seconds, pull, size) - _sum_by_index(firsts, pull, size) for pull in pulls)
        turn = arms_m[0] * y - arms_m[1] * x
        vector = np.stack([_sum_by_index(self.owners, part, count) for part in (turn, x, y)], axis=1)
        return information, information @ errors.ravel() + vector.ravel()

    def _turned_arms(self, errors: Float64) -> Float64:
        """Return the arms (2, N) after correction of their agents' yaws."""
        cosines, sines = np.cos(errors[self.owners, 0]), np.sin(errors[self.owners, 0])
        x, y = self.arms_m
        return np.stack([cosines * x - sines * y, sines * x + cosines * y])

    def _gaps(self, arms_m: Float64, errors: Float64) -> Float64:
        """Return the gaps (2, M) of all pairs after correction, in metres; the arms (2, N) are already turned."""
        places_m = (self.centres_m + errors[:, 1:])[self.owners].T + arms_m
        gaps_m: Float64 = places_m.take(self.firsts, axis=1) - places_m.take(self.seconds, axis=1)
        return gaps_m

    @cached_property
    def gap_variances(self) -> Float64:
        """Return (M,) the variance of each pair's gap if both peaks belong to one vehicle, in square metres."""
        return 1 / self.precisions[self.firsts] + 1 / self.precisions[self.seconds]

    def _match_weights(self, squares: Float64, scale_m: float) -> Float64:
        """Return (M,) in [0, 1] how much each pair counts as one vehicle, by its squared gap (M,) and its scores."""
        scores: Float64 = self.scores[self.firsts] * self.scores[self.seconds]
        return scores * np.exp(-squares / 2 / (scale_m**2 + self.gap_variances))

    def _gap_precisions(self, squares: Float64, scale_m: float) -> Float64:
        """Return (M,) the precision of each pair's gap, by its square (M,).

        Where several agents see one vehicle, its pairs repeat each other's information, so each pair's precision is lower.
        """
        first, second, count = self.precisions[self.firsts], self.precisions[self.seconds], len(self.scores)
        matches = self._match_weights(squares, scale_m)
        total = self.precisions + _sum_by_index(self.firsts, matches * second, count)
        total = total + _sum_by_index(self.seconds, matches * first, count)
        weights: Float64 = 2 * matches * first * second / (total[self.firsts] + total[self.seconds])
        return weights

    def _sum_per_agent(self, values: Float64, count: int) -> Float64:
        """Return (count,) for each agent the sum of the values (M,) of its pairs."""
        return sum((_sum_by_index(self.owners[peaks], values, count) for peaks in (self.firsts, self.seconds)), np.zeros(count))


def _pairs_within(places_m: Float64, reach_m: float) -> tuple[Indices, Indices]:
    """Return the indices of every two of the places (2, N) that are at most `reach_m` apart in x and less than that in y.

    The places are sorted by x, so that most pairs are never compared. Of each pair, the place that is first in this order comes
    first.
    """
    order = np.argsort(places_m[0], kind="stable")
    x, y = places_m[:, order]
    counts = np.searchsorted(x, x + reach_m, side="right") - np.arange(1, len(x) + 1)
    firsts = np.repeat(np.arange(len(x)), counts)
    seconds = np.arange(1, len(firsts) + 1) + firsts - np.repeat(np.cumsum(counts) - counts, counts)
    close = np.abs(y[firsts] - y[seconds]) < reach_m
    return order[firsts[close]], order[seconds[close]]


def _solve(matrix: Float64, vector: Float64) -> Float64:
    """Solve linear equations with torch, which keeps to the number of threads that it was given; NumPy's solvers use all cores."""
    solution: Float64 = torch.linalg.solve(torch.from_numpy(matrix), torch.from_numpy(vector)).numpy()
    return solution


def _sum_by_index(indices: Indices, values: Float64, size: int) -> Float64:
    """Return (size,) for each index the sum of its values; `values` has as many elements as `indices`."""
    sums: Float64 = np.bincount(indices.ravel(), values.ravel(), size).astype(np.float64, copy=False)
    return sums


def _sum_of_products(
    rows: Indices, columns: Indices, weights: Float64, row_arms_m: Float64, column_arms_m: Float64, count: int
) -> Float64:
    """Sum weighted products of two derivatives of places, transposed (3, 2) times (2, 3), in the blocks of their two agents.

    A derivative is that of a peak's place by its agent's yaw, x and y: ((-arm_y, 1, 0), (arm_x, 0, 1)). Six sums hold all entries
    of the products; products in full would take four times as long.

    Args:
        rows: (K,) agent of the first derivative.
        columns: (K,) agent of the second.
        weights: (K,).
        row_arms_m: (2, K) arm of the first derivative.
        column_arms_m: (2, K) arm of the second.
        count: number n of agents.

    Returns:
        (3 n, 3 n).
    """
    blocks = rows * count + columns
    row_x, row_y = weights * row_arms_m
    column_x, column_y = column_arms_m
    entries = {
        (0, 0): row_x * column_x + row_y * column_y,
        (0, 1): -row_y,
        (0, 2): row_x,
        (1, 0): -weights * column_y,
        (2, 0): weights * column_x,
        (1, 1): weights,
    }
    matrix: Float64 = np.zeros((count, 3, count, 3))
    for (row, column), values in entries.items():
        matrix[:, row, :, column] = _sum_by_index(blocks, values, count**2).reshape(count, count)
    matrix[:, 2, :, 2] = matrix[:, 1, :, 1]
    return matrix.reshape(3 * count, 3 * count)


def _spreads_per_metre(config: PoseCorrectionConfig) -> Float64:
    """Return (3,) the standard deviations of errors in yaw, x and y per metre of spread."""
    return np.array([math.radians(config.deg_per_m), 1.0, 1.0])


def _motion(error: Float64, centre_m: Float64) -> Float64:
    """Return the motion (4, 4) of an error (3,): a turn by its yaw around a point, and a shift by its x and y."""
    motion = pose_to_SE3([0.0, 0.0, 0.0, 0.0, math.degrees(error[0]), 0.0])
    motion[:2, 3] = centre_m + error[1:] - motion[:2, :2] @ centre_m
    return motion
