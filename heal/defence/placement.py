"""Whether a sender is where it says: how far the vehicles that both it and the ego see lie from where its pose puts them.

The search is that of the correction of poses, for the ego and one sender alone. It knows how far errors of poses and vehicles that
only one of the two sees can lead astray, and finds no shift without clear evidence.
"""

from __future__ import annotations

from collections.abc import Mapping

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

_SAME_M = 1.0  # how far apart two agents may place a vehicle once the shift is undone, and how alike two shifts are


def shift_of(ego: Peaks, sender: Peaks, ego_SE3_agent: Float64) -> Float64 | None:
    """Return where a sender is, by the vehicles that it and the ego see, minus where it says.

    Args:
        ego: the vehicles that the ego sees.
        sender: those that the sender sees, in its own frame.
        ego_SE3_agent: (4, 4) float64, maps the sender's coordinates into the ego's frame, by the claimed pose.

    Returns:
        (2,) float64 x and y in the ego's frame, metres; zeros without clear evidence of a shift. None if they see too few vehicles
        together.
    """
    motions = motions_by_peaks([ego, sender], [np.eye(4), ego_SE3_agent])
    _, agent_SE3_ego = with_motions([np.eye(4), inverse_SE3(ego_SE3_agent)], motions, ego_first=True)
    moved = inverse_SE3(agent_SE3_ego)
    places_m = sender.places_m @ moved[:2, :2].T + moved[:2, 3]
    gaps_m = np.linalg.norm(places_m[:, None] - ego.places_m, axis=2).min(axis=1, initial=np.inf)
    if (gaps_m < _SAME_M).sum() < FEWEST_VEHICLES:
        return None
    shift_m: Float64 = moved[:2, 3] - ego_SE3_agent[:2, 3]
    return shift_m


def misplaced(shifts_m: Mapping[str, Float64]) -> dict[str, str]:
    """Return the senders that are not where they say, each with the reason.

    Where all of several senders are shifted alike, it is the ego that is elsewhere than it believes, and nobody is misplaced.

    Args:
        shifts_m: of senders, by id, see `shift_of`.
    """
    off_m = {agent_id: float(np.linalg.norm(shift_m)) for agent_id, shift_m in shifts_m.items()}
    found = {agent_id: length_m for agent_id, length_m in off_m.items() if length_m > LARGEST_SHIFT_M}
    if len(found) == len(shifts_m) > 1 and np.ptp([*shifts_m.values()], axis=0).max() < _SAME_M:
        return {}
    why = f"from where it says, allowed are {LARGEST_SHIFT_M:g} m"
    return {agent_id: f"by the vehicles that it and the ego see it is {found[agent_id]:.1f} m {why}" for agent_id in found}
