"""The motion that the poses of a sender's messages tell: a vehicle has mass, so it neither jumps nor turns at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heal.message.header import Header
from heal.se3 import inverse_SE3
from heal.types import Float64

MAX_SPEED_MPS = 70.0
"""The largest speed of a sender: 252 km/h."""

MAX_ACCELERATION_MPS2 = 12.0
"""The largest change of the velocity: an emergency braking is below."""

MAX_TURN_DEGPS = 90.0
"""The largest rate at which a sender turns."""

POSE_SLACK_M, POSE_SLACK_DEG = 3.0, 10.0
"""The error of measured poses: of three poses with an error of 0.3 m each, 1 of 5,000 is so far from where the others lead."""

MAX_GAP_NS = 500_000_000
"""Poses that are farther apart in time are not compared, so a sender whose pose was corrected is believed again."""


@dataclass(frozen=True)
class _Place:
    timestamp_ns: int
    world_SE3_agent: Float64


class Motions:
    """The last two places of every sender, and whether the next one follows from them."""

    def __init__(self) -> None:
        """Know no sender."""
        self._places: dict[str, tuple[_Place, ...]] = {}

    def forget(self) -> None:
        """Forget all senders: another recording has begun."""
        self._places.clear()

    def implausible(self, header: Header) -> str | None:
        """Return why a sender cannot have come to the pose of a header; None if it can, or if nothing is known of where it was."""
        place = _Place(header.timestamp_ns, header.world_SE3_agent)
        known = [old for old in self._places.get(header.agent_id, ()) if 0 < place.timestamp_ns - old.timestamp_ns <= MAX_GAP_NS]
        return None if not known else _turn(known[-1], place) or _jump(known, place)

    def add(self, header: Header) -> None:
        """Remember the place of a sender that is believed."""
        place = _Place(header.timestamp_ns, header.world_SE3_agent)
        self._places[header.agent_id] = (*self._places.get(header.agent_id, ())[-1:], place)


def _turn(old: _Place, new: _Place) -> str | None:
    old_SE3_new = inverse_SE3(old.world_SE3_agent) @ new.world_SE3_agent
    turned_deg = abs(math.degrees(math.atan2(old_SE3_new[1, 0], old_SE3_new[0, 0])))
    allowed_deg = POSE_SLACK_DEG + MAX_TURN_DEGPS * _seconds(old, new)
    if turned_deg <= allowed_deg:
        return None
    return f"it has turned by {turned_deg:.0f} degrees in {_seconds(old, new):.2f} s, allowed are {allowed_deg:.0f}"


def _jump(known: Sequence[_Place], new: _Place) -> str | None:
    """Compare a place with where the last two lead, or with the last one if there is one alone."""
    last, elapsed_s = known[-1], _seconds(known[-1], new)
    expected_m, allowed_m = last.world_SE3_agent[:3, 3], POSE_SLACK_M + MAX_SPEED_MPS * elapsed_s
    if len(known) > 1:
        velocity = (last.world_SE3_agent[:3, 3] - known[0].world_SE3_agent[:3, 3]) / _seconds(known[0], last)
        expected_m = expected_m + velocity * elapsed_s
        # The velocity of two poses is that of the middle between them; the farther the step, the more their errors count.
        span_s = elapsed_s + _seconds(known[0], last) / 2
        allowed_m = POSE_SLACK_M * max(elapsed_s / _seconds(known[0], last), 1.0) + MAX_ACCELERATION_MPS2 * span_s * elapsed_s
    off_m = float(np.linalg.norm(new.world_SE3_agent[:3, 3] - expected_m))
    return None if off_m <= allowed_m else f"it is {off_m:.1f} m from where it was driving to, allowed are {allowed_m:.1f}"


def _seconds(old: _Place, new: _Place) -> float:
    return (new.timestamp_ns - old.timestamp_ns) / 1e9
