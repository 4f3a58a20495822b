"""What a fusion node refuses by a message's header: poses, coverages and clocks that cannot be, before any payload is decoded."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import heal.message.message
from heal.agents.fusion.plausible import implausible_coverage, implausible_pose
from heal.agents.options import RunOptions
from heal.agents.records import Arrival
from heal.errors import UserError
from heal.fusion.pyramid import PyramidFusion
from heal.message.codec import Codec
from heal.message.message import Message
from heal.message.payload import decode
from heal.se3 import pose_to_SE3
from heal.types import Float64
from tests.agents.fusion.tiny_node import MESSAGES, OPTIONS, at, fuse, message_of, new_node, request_at, same
from tests.heal.message.messages import reseal

B = MESSAGES["b"]


def turned(*rows: tuple[int, int, int], z_m: float = 1.9) -> Float64:
    """Make a pose near the ego with the given rotation."""
    pose = pose_to_SE3([101, 50, z_m, 0, 0, 0])
    pose[:3, :3] = rows
    return pose


IMPLAUSIBLE_POSES = {
    "x and z swapped": turned((0, 0, 1), (0, 1, 0), (-1, 0, 0)),
    "y and z swapped": turned((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "upside down": turned((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "tilted": pose_to_SE3([101, 50, 1.9, 45, 10, 0]),
    "pitched": pose_to_SE3([101, 50, 1.9, 0, 10, -45]),
    "beyond the stars": pose_to_SE3([101, 50, 1.7e308, 0, 0, 25]),
    "far away": pose_to_SE3([1e308, -1e308, 1.9, 0, 0, 0]),
    "just too far": pose_to_SE3([101, 50, -1.01e7, 0, 0, 0]),
}


@pytest.mark.parametrize("split", ["feature", "pyramid"])
@pytest.mark.parametrize("pose", IMPLAUSIBLE_POSES.values(), ids=IMPLAUSIBLE_POSES)
def test_an_implausible_pose_is_rejected_and_changes_nothing(pose: Float64, split: Any) -> None:
    options = replace(OPTIONS, split=split)
    ego, b, c = (message_of(agent_id, 0, options) for agent_id in ("ego", "b", "c"))
    arrivals = [Arrival(m.agent_id, m.to_bytes(), 0) for m in (ego, replace(b, world_SE3_agent=pose), c)]
    outcome = new_node(options).step(request_at(0), arrivals)
    assert [(one.agent_id, one.reason) for one in outcome.rejected] == [("b", "implausible pose")]
    assert outcome.used == ("ego", "c")
    assert same(outcome, new_node(options).step(request_at(0), [arrivals[0], arrivals[2]]))


def test_a_type_that_the_fusion_cannot_take_is_rejected_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def require_types(fusion: PyramidFusion, agent_types: Iterable[str]) -> None:
        if "unheard" in agent_types:
            raise UserError("it has weights for m1 and m2 alone")

    monkeypatch.setattr(PyramidFusion, "require_types", require_types)
    outcome = fuse(MESSAGES["ego"], ("b", replace(B, agent_type="unheard").to_bytes()))
    assert [(one.reason, one.detail) for one in outcome.rejected] == [("other type", "it has weights for m1 and m2 alone")]
    assert same(outcome, fuse(MESSAGES["ego"]))


@pytest.mark.parametrize("rows", [((1, 0, 0), (0, -1, 0), (0, 0, 1)), ((-1, 0, 0), (0, -1, 0), (0, 0, -1))])
def test_a_mirrored_pose_is_rejected_and_changes_nothing(rows: Any) -> None:
    """No sender of ours can make such a message, so its bytes are changed."""
    data = bytearray(B.to_bytes())
    data[32:160] = turned(*rows).tobytes()
    outcome = fuse(MESSAGES["ego"], ("b", reseal(data)))
    assert [one.agent_id for one in outcome.rejected] == ["b"] and "determinant" in outcome.rejected[0].detail
    assert same(outcome, fuse(MESSAGES["ego"]))
    assert "determinant" in (implausible_pose(turned(*rows)) or "")


@pytest.mark.parametrize("coverage", [(1e-310, 1.0), (1.0, 5e-324), (1e300, 1.0), (1.0, 1001.0), (0.009, 1.0)])
def test_an_implausible_coverage_is_rejected_and_changes_nothing(coverage: tuple[float, float]) -> None:
    outcome = fuse(MESSAGES["ego"], replace(B, coverage=coverage))
    assert [(one.agent_id, one.reason) for one in outcome.rejected] == [("b", "implausible coverage")]
    assert same(outcome, fuse(MESSAGES["ego"]))


@given(
    st.tuples(*[st.floats(-1e7, 1e7)] * 3),
    st.tuples(st.floats(-20, 20), st.floats(-180, 180), st.floats(-20, 20)),
    st.tuples(*[st.floats(0.01, 1000)] * 2),
)
@settings(max_examples=50, deadline=None)
def test_what_is_plausible_is_fused_without_an_error(place: Any, angles: Any, coverage: tuple[float, float]) -> None:
    roll, yaw, pitch = angles
    pose = pose_to_SE3([*place, roll, yaw, pitch])
    assert implausible_pose(pose) is None and implausible_coverage(coverage) is None
    request = replace(request_at(0), world_SE3_frame=pose_to_SE3([*place, 0, 0, 0]))
    sent = replace(B, world_SE3_agent=pose, coverage=coverage)
    outcome = new_node().step(request, [Arrival("b", sent.to_bytes(), 0)])
    assert outcome.used == ("b",) and outcome.rejected == ()


@pytest.mark.parametrize("exact", [1.0, 1.0004])
def test_poses_of_rounded_numbers_are_plausible(exact: float) -> None:
    pose = pose_to_SE3([4_412_345.0, 442_345.0, 40, 1, 30, 2])
    pose[:3, :3] = np.round(exact * pose[:3, :3], 6)
    assert implausible_pose(pose) is None
    pose[:3, :3] *= 1.01
    assert "length 1" in (implausible_pose(pose) or "")
    pose[0, 0] = float("nan")
    assert implausible_pose(pose)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the payloads that are decoded."""
    calls: list[int] = []

    def counting(*args: Any) -> Any:
        calls.append(1)
        return decode(*args)

    monkeypatch.setattr(heal.message.message, "decode", counting)
    return calls


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"base_hash": "0" * 64}, "other base"),
        ({"maps": (np.concatenate([B.maps[0]] * 2),)}, "other grid"),
        ({"split": "pyramid", "scores": (np.ones_like(B.maps[0][0]),)}, "other split"),
        ({"world_SE3_agent": IMPLAUSIBLE_POSES["tilted"]}, "implausible pose"),
        ({"coverage": (1e-310, 1.0)}, "implausible coverage"),
        ({"timestamp_ns": -201_000_000}, "stale"),
        ({"timestamp_ns": 201_000_000}, "stale"),
        ({"agent_id": "c"}, "wrong sender"),
    ],
)
def test_what_the_header_rules_out_is_rejected_before_its_payload_is_decoded(
    decoded: list[int], change: dict[str, Any], reason: str
) -> None:
    data = replace(B, **change).to_bytes(Codec.parse("int8,zstd"))
    outcome = fuse(("b", data))
    assert [one.reason for one in outcome.rejected] == [reason] and decoded == []
    fuse(("b", B.to_bytes()), MESSAGES["ego"])
    assert len(decoded) == 2


def bomb(change: Callable[[bytearray], None]) -> bytes:
    """Make a sealed message of b of some hundred bytes that claims a map of 2^24 numbers and holds it, all zeros."""
    import zstandard

    shape, grid = (16, 1024, 1024), (-409.6, -409.6, -3.0, 409.6, 409.6, 1.0, 0.8)
    content_bytes = 8 * shape[0] + 16 * 1024 * 1024
    payload = zstandard.ZstdCompressor(level=3).compress(bytes(content_bytes))
    length = struct.unpack_from("<I", B.to_bytes(), 8)[0]
    header = bytearray(B.to_bytes()[:length])
    header[7] = 3
    header[16:24] = struct.pack("<Q", len(payload))
    header[160:216] = struct.pack("<7d", *grid)
    header[232:241] = struct.pack("<QB", content_bytes, 2)
    header[248:260] = struct.pack("<3I", *shape)
    change(header)
    return reseal(header + bytearray(payload))


def test_a_small_message_for_another_base_or_grid_allocates_almost_nothing() -> None:
    def other_base(header: bytearray) -> None:
        at_hash = header.index(B.base_hash.encode())
        header[at_hash : at_hash + 4] = b"beef"

    for change, reason in ((other_base, "other base"), (lambda header: None, "other grid")):
        data, node = bomb(change), new_node()
        assert len(data) < 2500 and Message.from_bytes(data).maps[0].shape == (16, 1024, 1024)
        tracemalloc.start()
        outcome = node.step(request_at(0), [Arrival("b", data, 0)])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert [one.reason for one in outcome.rejected] == [reason]
        assert peak < 1 << 18


def test_a_clock_far_ahead_is_rejected_and_one_a_little_ahead_is_not() -> None:
    options = RunOptions(max_age_ms=500)
    for ahead_ms, reasons in ((450, ["clock ahead"]), (201, ["clock ahead"]), (200, []), (501, ["stale"])):
        sent = replace(B, timestamp_ns=ahead_ms * 1_000_000)
        outcome = new_node(options).step(request_at(0), [Arrival("b", sent.to_bytes(), 0)])
        assert [one.reason for one in outcome.rejected] == reasons


def test_a_timestamp_ahead_does_not_shut_out_the_senders_next_message() -> None:
    """The message of tick 0 carries the time of tick 2, as of a clock that is set right afterwards."""
    node, ego = new_node(), MESSAGES["ego"]
    ahead = Arrival("b", replace(B, timestamp_ns=199_000_000).to_bytes(), 0)
    assert node.step(request_at(0), [at(ego, 0), ahead]).used == ("ego", "b")
    outcome = node.step(request_at(1), [at(ego, 1), at(B, 1)])
    assert outcome.used == ("ego", "b") and outcome.rejected == ()
    assert same(outcome, new_node().step(request_at(1), [at(ego, 1), at(B, 1)]))
