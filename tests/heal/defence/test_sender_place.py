"""The place of a sender by the vehicles that it and the ego see."""

from __future__ import annotations

import numpy as np
import pytest

from heal.defence.placement import misplaced, shift_of
from heal.pose_correction.peaks import Peaks
from heal.se3 import inverse_SE3, pose_to_SE3, transform_points
from heal.types import Float64

PLACES = np.array([[10.0, 3.0], [-14.0, 8.0], [25.0, -20.0], [-6.0, -18.0], [32.0, 12.0]])
EGO_SE3_AGENT = pose_to_SE3([20.0, 4.0, 0.0, 0.0, 35.0, 0.0])


def seen_from(ego_SE3_agent: Float64, rng: np.random.Generator | None = None, places: Float64 = PLACES) -> Peaks:
    """Return vehicles as an agent at a place sees them, on its cells of 0.8 m if there are random numbers."""
    local = transform_points(inverse_SE3(ego_SE3_agent), np.pad(places, ((0, 0), (0, 1))))[:, :2]
    spread = np.zeros_like(local) if rng is None else rng.uniform(-0.3, 0.3, local.shape)
    return Peaks(local + spread, np.full(len(local), 0.9))


def found(claimed: Float64, ego: Peaks, *senders: Peaks) -> dict[str, str]:
    """Return which of the senders, who all claim one pose, are misplaced."""
    shifts = {str(number): shift_of(ego, sender, claimed) for number, sender in enumerate(senders)}
    return misplaced({number: shift for number, shift in shifts.items() if shift is not None})


def off(x_m: float, y_m: float) -> Float64:
    return pose_to_SE3([x_m, y_m, 0.0, 0.0, 0.0, 0.0]) @ EGO_SE3_AGENT


@pytest.mark.parametrize("seed", range(5))
def test_a_sender_where_it_says_is_not_misplaced_even_with_errors_of_poses(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ego, sender = seen_from(np.eye(4), rng), seen_from(EGO_SE3_AGENT, rng)
    measured = pose_to_SE3([*rng.normal(0, 0.42, 2), 0.0, 0.0, rng.normal(0, 0.42), 0.0]) @ EGO_SE3_AGENT
    assert found(EGO_SE3_AGENT, ego, sender) == found(measured, ego, sender) == {}


@pytest.mark.parametrize("off_m", [2.0, 3.0])
def test_the_shift_of_a_wrong_pose_is_found(off_m: float) -> None:
    claimed, ego, sender = off(0.6 * off_m, -0.8 * off_m), seen_from(np.eye(4)), seen_from(EGO_SE3_AGENT)
    shift_m, none = shift_of(ego, sender, claimed), shift_of(ego, sender, EGO_SE3_AGENT)
    assert shift_m is not None and shift_m == pytest.approx([-0.6 * off_m, 0.8 * off_m], abs=0.25)
    assert f"it is {np.linalg.norm(shift_m):.1f} m from where it says" in found(claimed, ego, sender)["0"]
    assert none is not None and np.abs(none).max() < 0.1


def test_an_ego_that_is_elsewhere_than_it_believes_blames_nobody_and_liars_among_honest_senders_are_found() -> None:
    ego, honest, liar = seen_from(np.eye(4)), seen_from(EGO_SE3_AGENT), seen_from(off(0.0, 2.5))
    assert found(off(2.0, 0.0), ego, honest, honest, honest) == {}
    assert found(EGO_SE3_AGENT, ego, honest, liar, liar).keys() == {"1", "2"}
    assert found(off(2.0, 0.0), ego, honest, liar).keys() == {"0", "1"}  # shifted, but not alike
    assert found(EGO_SE3_AGENT, ego, liar).keys() == {"0"}  # of one sender alone nobody knows whose pose it is


def test_agents_that_see_no_two_vehicles_together_tell_nothing() -> None:
    ego, nothing = seen_from(np.eye(4)), Peaks(np.zeros((0, 2)), np.zeros(0))
    elsewhere = seen_from(EGO_SE3_AGENT, places=PLACES + 200.0)
    for sender in (nothing, elsewhere, seen_from(EGO_SE3_AGENT, places=PLACES[:1])):
        assert shift_of(ego, sender, off(2.0, 0.0)) is None
    assert shift_of(nothing, ego, EGO_SE3_AGENT) is None and misplaced({}) == {}
