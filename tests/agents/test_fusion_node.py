"""The fusion node: whatever comes in, it answers, counts what it turns down, and never does worse than without it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heal.agents.agent import Agent, AgentKit
from heal.agents.fusion_node import FusionNode
from heal.agents.records import Arrival, FusionOutcome, FusionRequest, RunOptions
from heal.grid import BevGrid
from heal.message import Message
from heal.se3 import pose_to_SE3
from heal.types import Float32
from tests.agents.tiny_run import GRID, TinyAlliance, TinySource

ALLIANCE = TinyAlliance()
SOURCE = TinySource()
NODE = FusionNode(ALLIANCE.base, ALLIANCE.base_hash, RunOptions())


def message_of(agent_id: str, tick: int = 0) -> Message:
    kit = AgentKit("m1", ALLIANCE.agent("m1"), ALLIANCE.base_hash, GRID, SOURCE)
    return Message.from_bytes(Agent(agent_id, kit).step(tick)[0])


MESSAGES = {agent_id: message_of(agent_id) for agent_id in ("ego", "b", "c")}


def fuse(*messages: Message | tuple[str, bytes], ego_id: str = "ego") -> FusionOutcome:
    arrivals = [Arrival(m.agent_id, m.to_bytes(), 0) if isinstance(m, Message) else Arrival(m[0], m[1], 0) for m in messages]
    outline = SOURCE.outline(0)
    return NODE.step(FusionRequest(0, outline.timestamp_ns, ego_id, outline.world_SE3_ego), arrivals)


def same(a: FusionOutcome, b: FusionOutcome) -> bool:
    return torch.equal(a.detections.corners, b.detections.corners) and torch.equal(a.detections.scores, b.detections.scores)


def test_the_others_change_the_result_and_their_order_among_the_arrivals_does_not_move_the_ego() -> None:
    alone, together = fuse(MESSAGES["ego"]), fuse(MESSAGES["ego"], MESSAGES["b"], MESSAGES["c"])
    assert len(alone.detections) and len(together.detections)
    assert not same(alone, together)
    assert together.used == ("ego", "b", "c")
    assert same(fuse(MESSAGES["b"], MESSAGES["ego"], MESSAGES["c"]), together)


def test_without_any_message_nothing_is_found() -> None:
    assert len(fuse().detections) == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"base_hash": "0" * 64}, "other base"),
        ({"timestamp_ns": 201_000_000}, "stale"),
        ({"timestamp_ns": -(2**62)}, "stale"),
        ({"features": np.full_like(MESSAGES["b"].features, np.nan)}, "not finite"),
        ({"features": np.full_like(MESSAGES["b"].features, np.inf)}, "not finite"),
        ({"features": np.concatenate([MESSAGES["b"].features] * 2)}, "other grid"),
        ({"grid": BevGrid((-12.8, -12.8, -3.0, 12.8, 12.8, 2.0), 0.8)}, "other grid"),
        ({"world_SE3_agent": pose_to_SE3([171, 50, 0, 0, 0, 0])}, "out of range"),
        ({"world_SE3_agent": pose_to_SE3([1e300, 1e300, 0, 0, 0, 0])}, "out of range"),
    ],
)
def test_bad_content_is_turned_down_and_counted(change: dict[str, Any], reason: str) -> None:
    outcome = fuse(MESSAGES["ego"], replace(MESSAGES["b"], **change), MESSAGES["c"])
    assert [(rejection.agent_id, rejection.reason) for rejection in outcome.rejected] == [("b", reason)]
    assert same(outcome, fuse(MESSAGES["ego"], MESSAGES["c"]))


def test_a_message_in_anothers_name_and_a_second_one_are_turned_down() -> None:
    expected = fuse(MESSAGES["ego"], MESSAGES["b"])
    forged = fuse(MESSAGES["ego"], MESSAGES["b"], ("c", MESSAGES["b"].to_bytes()))
    twice = fuse(MESSAGES["ego"], MESSAGES["b"], MESSAGES["b"])
    assert [forged.rejected[0].reason, twice.rejected[0].reason] == ["wrong sender", "duplicate"]
    assert same(forged, expected) and same(twice, expected)


@given(st.binary(max_size=300), st.integers(0, 10_000), st.integers(0, 255))
@settings(max_examples=25, deadline=None)
def test_malformed_bytes_never_stop_the_node(noise: bytes, position: int, value: int) -> None:
    data = bytearray(MESSAGES["b"].to_bytes())
    data[position % len(data)] ^= value or 1
    outcome = fuse(("c", noise), MESSAGES["ego"], ("b", bytes(data)))
    assert {rejection.reason for rejection in outcome.rejected} == {"malformed"} and len(outcome.rejected) == 2
    assert same(outcome, fuse(MESSAGES["ego"]))


def test_range_is_measured_in_the_plane_from_the_egos_own_pose() -> None:
    near = replace(MESSAGES["b"], world_SE3_agent=pose_to_SE3([169, 50, 500, 0, 0, 0]))
    assert fuse(MESSAGES["ego"], near).used == ("ego", "b")
    moved_ego = replace(MESSAGES["ego"], world_SE3_agent=pose_to_SE3([90, 50, 1.9, 0, 0, 0]))
    assert fuse(moved_ego, near).used == ("ego",)


def test_without_the_egos_message_a_lone_map_is_still_moved_into_the_egos_frame() -> None:
    """A map that is all the node has, from an agent whole cells away, gives the boxes it gives at home, shifted."""
    world_SE3_b = SOURCE.outline(0).world_SE3_ego @ pose_to_SE3([3.2, -1.6, 0, 0, 0, 0])
    b = replace(MESSAGES["b"], world_SE3_agent=world_SE3_b, features=_only_middle(MESSAGES["b"].features))
    shifted = fuse(b).detections.corners
    home = NODE.step(FusionRequest(0, 0, "b", world_SE3_b), [Arrival("b", b.to_bytes(), 0)]).detections.corners
    middle = home[home[:, :, :2].mean(dim=1).norm(dim=1) < 3.0]
    assert len(middle)
    for corners in middle + torch.tensor([3.2, -1.6, 0.0]):
        assert (shifted - corners).abs().amax(dim=(1, 2)).min() < 1e-3


def _only_middle(features: Float32) -> Float32:
    """Without a border, so that nothing falls off when the map is shifted."""
    ny, nx = features.shape[1:]
    middle = (slice(None), slice(ny // 2 - 4, ny // 2 + 4), slice(nx // 2 - 4, nx // 2 + 4))
    kept = np.zeros_like(features)
    kept[middle] = 5 * features[middle]
    return kept
