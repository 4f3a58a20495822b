"""Correction of agents' poses by the vehicles that several agents see, which are the peaks of the agents' foreground scores.

Measured poses have errors, and so have the places of peaks. The spread of the peaks' places is known; the spread of the poses'
errors is estimated from the peaks. Where the peaks fit the measured poses about as well as corrected poses, the poses stay as they
are. Otherwise all agents are moved at once, in the plane, to their most probable poses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from heal.pose_correction.motions import motion_of, solve
from heal.pose_correction.peak_pairs import PeakPairs
from heal.pose_correction.peaks import DEFAULT, Peaks, PoseCorrectionConfig
from heal.types import Float64


def motions_by_peaks(
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
    pairing = PeakPairs.of(peaks, frame_SE3_agents, config)
    errors: Float64 = np.zeros((len(peaks), 3))
    prior = np.diag(np.tile(_spreads_per_metre(config) * config.spread_m, len(peaks)) ** -2.0)
    for scale_m in config.scales_m:
        information, vector = pairing.normal_equations(errors, scale_m)
        errors = solve(information + prior, vector).reshape(-1, 3)
    pairing = pairing.between(pairing.log_likelihood_ratios(errors, config) >= config.min_shared)
    posterior = _PosteriorOfErrors.of(*pairing.normal_equations(errors, config.scales_m[-1]), config)
    log_odds = posterior.log_odds()
    if log_odds.max() < config.min_log_odds:
        return None
    odds = np.exp(log_odds - log_odds.max())
    mean_errors = posterior.mean_errors(odds / odds.sum())
    return [motion_of(error, centre_m) for error, centre_m in zip(mean_errors, pairing.centres_m, strict=True)]


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


def _spreads_per_metre(config: PoseCorrectionConfig) -> Float64:
    """Return (3,) the standard deviations of errors in yaw, x and y per metre of spread."""
    return np.array([math.radians(config.deg_per_m), 1.0, 1.0])
