"""The fusion node: it answers whatever arrives, rejects bad messages with a reason, and is not affected by rejected messages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heal.agent_model import AgentModel
from heal.agents.records import Arrival, FusionOutcome, FusionRequest
from heal.grid import BevGrid, block_shape
from heal.se3 import pose_to_SE3
from heal.types import MAP_SPLITS, Float32, Float64
from tests.agents.fusion.tiny_node import MESSAGES, OPTIONS, SOURCE, at, fuse, message_of, new_node, request_at, same
from tests.agents.tiny_run import GRID


def test_other_maps_change_the_result_and_the_order_of_arrival_does_not() -> None:
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
        ({"timestamp_ns": -201_000_000}, "stale"),
        ({"timestamp_ns": -(2**62)}, "stale"),
        ({"maps": (np.full_like(MESSAGES["b"].maps[0], np.nan),)}, "not finite"),
        ({"maps": (np.full_like(MESSAGES["b"].maps[0], np.inf),)}, "not finite"),
        ({"maps": (np.concatenate([MESSAGES["b"].maps[0]] * 2),)}, "other grid"),
        ({"grid": BevGrid((-12.8, -12.8, -3.0, 12.8, 12.8, 2.0), 0.8)}, "other grid"),
        ({"world_SE3_agent": pose_to_SE3([171, 50, 0, 0, 0, 0])}, "out of range"),
        ({"world_SE3_agent": pose_to_SE3([9e6, 9e6, 0, 0, 0, 0])}, "out of range"),
    ],
)
def test_bad_content_is_rejected_with_its_reason(change: dict[str, Any], reason: str) -> None:
    outcome = fuse(MESSAGES["ego"], replace(MESSAGES["b"], **change), MESSAGES["c"])
    assert [(rejection.agent_id, rejection.reason) for rejection in outcome.rejected] == [("b", reason)]
    assert same(outcome, fuse(MESSAGES["ego"], MESSAGES["c"]))


def test_a_message_under_another_name_and_a_duplicate_are_rejected() -> None:
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
    """A single map, from an agent a whole number of cells away, gives the boxes of the agent's own frame, shifted."""
    world_SE3_b = SOURCE.outline(0).world_SE3_ego @ pose_to_SE3([3.2, -1.6, 0, 0, 0, 0])
    b = replace(MESSAGES["b"], world_SE3_agent=world_SE3_b, maps=(_only_middle(MESSAGES["b"].maps[0]),))
    shifted = fuse(b).detections.corners
    own = new_node().step(FusionRequest(0, 0, "tiny", "b", world_SE3_b), [Arrival("b", b.to_bytes(), 0)]).detections.corners
    middle = own[own[:, :, :2].mean(dim=1).norm(dim=1) < 3.0]
    assert len(middle)
    for corners in middle + torch.tensor([3.2, -1.6, 0.0]):
        assert (shifted - corners).abs().amax(dim=(1, 2)).min() < 1e-3


def test_both_splits_give_the_same_boxes_to_the_last_bit() -> None:
    pyramid = replace(OPTIONS, split="pyramid")
    messages = [message_of(agent_id, 0, pyramid) for agent_id in ("ego", "b", "c")]
    outcome = new_node(pyramid).step(request_at(0), [Arrival(m.agent_id, m.to_bytes(), 0) for m in messages])
    assert outcome.used == ("ego", "b", "c") and len(outcome.detections)
    assert same(outcome, fuse(*MESSAGES.values()))
    mixed = new_node().step(request_at(0), [Arrival(m.agent_id, m.to_bytes(), 0) for m in messages])
    assert {rejection.reason for rejection in mixed.rejected} == {"other split"} and not mixed.used


def test_both_splits_agree_on_what_is_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender whose sensors cover the left half alone has no weight in the right one, on either side of the link."""
    left = np.zeros(block_shape(GRID.ny, GRID.nx), np.bool_)
    left[len(left) // 2 :] = True
    whole = fuse(*MESSAGES.values())
    monkeypatch.setattr(AgentModel, "covered_blocks", lambda self, frame: left if frame.agent_id == "b" else None)
    outcomes = []
    for split in MAP_SPLITS:
        options = replace(OPTIONS, split=split)
        messages = [message_of(agent_id, 0, options) for agent_id in ("ego", "b", "c")]
        assert messages[1].covered is not None if split == "feature" else not messages[1].scores[0][: GRID.ny // 2].any()
        outcomes.append(new_node(options).step(request_at(0), [Arrival(m.agent_id, m.to_bytes(), 0) for m in messages]))
    assert same(*outcomes) and not same(outcomes[0], whole)


def detections_of(outcome: FusionOutcome) -> tuple[Any, ...]:
    return outcome.detections.corners.tolist(), outcome.detections.scores.tolist()


def test_a_late_map_is_held_until_a_newer_one_comes_or_it_is_too_old() -> None:
    for late, ages in (("drop", []), ("hold", [100.0, 200.0]), ("weigh", [100.0, 200.0])):
        node, held = new_node(replace(OPTIONS, late=late, half_life_ms=100)), []
        node.step(request_at(0), [at(MESSAGES["ego"], 0), at(MESSAGES["b"], 0)])
        for tick in (1, 2, 3):
            held += node.step(request_at(tick), [at(MESSAGES["ego"], tick)]).held
        assert [one.age_ms for one in held] == ages and {one.agent_id for one in held} <= {"b"}
        assert [one.weight for one in held] == ([0.5, 0.25] if late == "weigh" else [1.0] * len(ages))


def test_a_newer_map_replaces_a_held_one_and_an_older_message_after_it_is_rejected() -> None:
    node = new_node()
    node.step(request_at(0), [at(MESSAGES["ego"], 0), at(MESSAGES["b"], 0)])
    outcome = node.step(request_at(2), [at(MESSAGES["ego"], 2), at(MESSAGES["b"], 2), at(MESSAGES["b"], 1)])
    assert outcome.used == ("ego", "b") and outcome.held == ()
    assert [(rejection.tick, rejection.reason) for rejection in outcome.rejected] == [(1, "superseded")]
    fresh = new_node().step(request_at(2), [at(MESSAGES["ego"], 2), at(MESSAGES["b"], 2)])
    assert same(outcome, fresh)


def test_every_message_that_comes_late_is_fused_or_rejected() -> None:
    own, late = at(MESSAGES["ego"], 2), at(MESSAGES["b"], 1)
    with_newer = new_node().step(request_at(2), [own, late, at(MESSAGES["b"], 2)])
    assert with_newer.used == ("ego", "b") and with_newer.held == ()
    assert [(*one.sender, one.reason) for one in with_newer.rejected] == [("b", 1, "superseded")]
    node, far = new_node(), replace(MESSAGES["b"], world_SE3_agent=MESSAGES["b"].world_SE3_agent + shifted_x(1000.0))
    distant = node.step(request_at(2), [own, at(far, 1)])
    assert distant.held == () and [(*one.sender, one.reason) for one in distant.rejected] == [("b", 1, "out of range")]
    assert node.step(request_at(3), [at(MESSAGES["ego"], 3)]).rejected == (), "a held map is rejected when it comes, not again"


def shifted_x(by_m: float) -> Float64:
    shift = np.zeros((4, 4))
    shift[0, 3] = by_m
    return shift


def test_a_held_map_is_fused_where_it_was_taken_and_trusted_less() -> None:
    """Under "hold" the held map counts as if sent again at its old pose; under "weigh" the result lies between that and no map."""
    hold, weigh = (new_node(replace(OPTIONS, late=late, half_life_ms=50)) for late in ("hold", "weigh"))
    for node in (hold, weigh):
        node.step(request_at(0), [at(MESSAGES["ego"], 0), at(MESSAGES["b"], 0)])
    ego = at(MESSAGES["ego"], 1)
    held, weighed = (node.step(request_at(1), [ego]) for node in (hold, weigh))
    assert same(held, new_node().step(request_at(1), [ego, at(MESSAGES["b"], 1)]))
    alone = new_node().step(request_at(1), [ego])
    assert detections_of(weighed) not in (detections_of(held), detections_of(alone))


def test_another_recording_forgets_everything() -> None:
    node = new_node()
    node.step(request_at(0), [at(MESSAGES["ego"], 0), at(MESSAGES["b"], 0)])
    assert node.step(replace(request_at(1), sequence="elsewhere"), [at(MESSAGES["ego"], 1)]).held == ()


def _only_middle(features: Float32) -> Float32:
    """Clear all but the middle of a map, so that a shifted map loses no features at its border."""
    ny, nx = features.shape[1:]
    middle = (slice(None), slice(ny // 2 - 4, ny // 2 + 4), slice(nx // 2 - 4, nx // 2 + 4))
    kept = np.zeros_like(features)
    kept[middle] = 5 * features[middle]
    return kept
