"""The motion that a sender's poses tell: vehicles drive, brake and turn; what jumps is not believed, and not for ever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from heal.agents.fusion.motion import Motions
from heal.message.header import Header, UnreadMessage
from heal.se3 import pose_to_SE3
from tests.agents.fusion.tiny_node import MESSAGES

HEADER = UnreadMessage.of(MESSAGES["b"].to_bytes()).header


def at(time_s: float, x_m: float, y_m: float = 0.0, yaw_deg: float = 0.0) -> Header:
    pose = pose_to_SE3([x_m, y_m, 1.9, 0, yaw_deg, 0])
    return replace(HEADER, timestamp_ns=round(time_s * 1e9), world_SE3_agent=pose)


def problems(headers: Sequence[Header]) -> list[str | None]:
    """Return the problem of each header; one without a problem is believed."""
    motions, found = Motions(), []
    for header in headers:
        found.append(motions.implausible(header))
        if found[-1] is None:
            motions.add(header)
    return found


def test_vehicles_that_drive_brake_turn_and_measure_badly_are_believed() -> None:
    generator = np.random.default_rng(0)
    fast = [at(0.1 * i, 6.9 * i) for i in range(20)]
    braking = [at(0.1 * i, 30 * 0.1 * i - 5 * (0.1 * i) ** 2) for i in range(30)]
    turning = [at(0.1 * i, 5 * np.sin(0.15 * i), 5 * np.cos(0.15 * i), 8 * i) for i in range(40)]
    noisy = [at(0.1 * i, 1.5 * i + generator.normal(0, 0.3), generator.normal(0, 0.3)) for i in range(200)]
    gaps = [at(time_s, 15 * time_s) for time_s in (0.0, 0.1, 0.4, 0.5, 0.9, 2.0, 2.1)]
    for drive in (fast, braking, turning, noisy, gaps):
        assert not any(problems(drive))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (at(0.3, 10.5), "from where it was driving to"),
        (at(0.3, 4.5, 6.0), "m from where"),
        (at(0.3, 4.5, yaw_deg=30), "turned by 30"),
    ],
)
def test_a_jump_and_a_sudden_turn_are_not_believed(header: Header, words: str) -> None:
    *before, found = problems([at(0.0, 0.0), at(0.1, 1.5), at(0.2, 3.0), header])
    assert not any(before) and words in str(found)


def test_the_second_pose_may_be_as_far_as_a_fast_vehicle_drives() -> None:
    assert problems([at(0.0, 0.0), at(0.1, 9.0)]) == [None, None]
    assert "allowed are 10.0" in str(problems([at(0.0, 0.0), at(0.1, 11.0)])[1])


def test_a_sender_whose_pose_was_corrected_is_believed_again_and_another_recording_begins_anew() -> None:
    drive = [at(0.1 * i, 1.5 * i) for i in range(5)] + [at(0.5 + 0.1 * i, 100 + 1.5 * i) for i in range(10)]
    found = problems(drive)
    assert [problem is None for problem in found] == [True] * 5 + [False] * 5 + [True] * 5
    motions = Motions()
    motions.add(at(0.0, 0.0))
    motions.forget()
    assert motions.implausible(at(0.1, 500.0)) is None
    assert motions.implausible(replace(at(0.1, 0.0), agent_id="c")) is None
