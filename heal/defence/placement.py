"""Whether a sender is where it says: how far the vehicles that both it and the ego see lie from where its pose puts them.

The search is that of the correction of poses, for the ego and one sender alone. It knows how far errors of poses and vehicles that
only one of the two sees can lead astray, and finds no shift without clear evidence.
"""

from __future__ import annotations

import numpy as np

from heal.pose_correction.by_peaks import motions_by_peaks
from heal.pose_correction.motions import with_motions
from heal.pose_correction.peaks import Peaks
from heal.se3 import inverse_SE3
from heal.types import Float64

LARGEST_SHIFT_M = 1.5
"""How far a sender may be from where it says: more than three times the spread between two poses that are each 0.3 m off."""

FEWEST_VEHICLES = 2
"""Vehicles that both have to see: of one alone, each may see another vehicle of two that are parked side by side."""

_SAME_M = 1.0  # how far apart the two may place a vehicle once the shift is undone


def shift_m(ego: Peaks, sender: Peaks, ego_SE3_agent: Float64) -> float:
    """Return how far, in metres in the plane, a sender is from its claimed place by the vehicles that it and the ego see.

    Args:
        ego: the vehicles that the ego sees.
        sender: those that the sender sees, in its own frame.
        ego_SE3_agent: (4, 4) float64, maps the sender's coordinates into the ego's frame, by the claimed pose.

    Returns:
        0.0 if the vehicles give no clear evidence of a shift.
    """
    motions = motions_by_peaks([ego, sender], [np.eye(4), ego_SE3_agent])
    _, agent_SE3_ego = with_motions([np.eye(4), inverse_SE3(ego_SE3_agent)], motions, ego_first=True)
    moved = inverse_SE3(agent_SE3_ego)
    places_m = sender.places_m @ moved[:2, :2].T + moved[:2, 3]
    gaps_m = np.linalg.norm(places_m[:, None] - ego.places_m, axis=2).min(axis=1, initial=np.inf)
    if (gaps_m < _SAME_M).sum() < FEWEST_VEHICLES:
        return 0.0
    return float(np.linalg.norm(moved[:2, 3] - ego_SE3_agent[:2, 3]))


def misplacement(ego: Peaks, sender: Peaks, ego_SE3_agent: Float64) -> str | None:
    """Return why a sender is not where it says; None if it may be. Arguments as for `shift_m`."""
    off_m = shift_m(ego, sender, ego_SE3_agent)
    if off_m <= LARGEST_SHIFT_M:
        return None
    return f"by the vehicles that it and the ego see it is {off_m:.1f} m from where it says, allowed are {LARGEST_SHIFT_M:g} m"
