"""The peaks of several agents in one frame, in pairs that may belong to one vehicle, and the equations that the pairs give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from heal.pose_correction.peaks import Peaks, PoseCorrectionConfig
from heal.types import Float64

Indices = npt.NDArray[np.intp]
# Added to both sides of a ratio, so that no logarithm is taken of zero.
_TINY = 1e-12
# Pairs of this weight or less, in 1 / square metres, cost time and change nothing.
_LEAST_WEIGHT = 1e-3


@dataclass(frozen=True)
class PeakPairs:
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
    def of(peaks: Sequence[Peaks], frame_SE3_agents: Sequence[Float64], config: PoseCorrectionConfig) -> PeakPairs:
        """Place the peaks in the common frame and pair those that are near each other."""
        owners = np.repeat(np.arange(len(peaks)), [len(part.scores) for part in peaks])
        centres_m = np.stack([pose[:2, 3] for pose in frame_SE3_agents])
        arms_m = np.concatenate([part.places_m @ pose[:2, :2].T for part, pose in zip(peaks, frame_SE3_agents, strict=True)])
        scores = np.concatenate([part.scores for part in peaks])
        arms_m = np.ascontiguousarray(arms_m.T)
        firsts, seconds = pairs_within(centres_m[owners].T + arms_m, config.reach_m)
        apart = owners[firsts] != owners[seconds]
        precisions = (config.sharp_m + config.vague_m * (1 - scores)) ** -2
        return PeakPairs(owners, arms_m, centres_m, precisions, scores, firsts[apart], seconds[apart])

    def between(self, chosen: npt.NDArray[np.bool_]) -> PeakPairs:
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


def pairs_within(places_m: Float64, reach_m: float) -> tuple[Indices, Indices]:
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
