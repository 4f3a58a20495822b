"""The last line of defence: whatever a message does to reading and fusing, the node answers, and the ego keeps its own boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from heal.agents.fusion.tick_fusion import TickFusion
from heal.agents.records import Arrival, FusionOutcome, FusionRequest
from heal.agents.region import Region
from heal.se3 import pose_to_SE3
from tests.agents.fusion.tiny_node import ALLIANCE, MESSAGES, at, fuse, new_node, request_at, same

ERRORS = (ZeroDivisionError("by zero"), RuntimeError("shapes\nof tensors"), torch.OutOfMemoryError("8 GiB"), MemoryError())
Spoil = Callable[[BaseException, int], None]


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Spoil:
    """Return a function after which the fusion of at least so many maps raises an error."""
    original = ALLIANCE.base.fuse_scored

    def spoiled(error: BaseException, at_least: int) -> None:
        def fuse_scored(maps: Any, *rest: Any) -> torch.Tensor:
            if len(maps[0]) >= at_least:
                raise error
            return original(maps, *rest)

        monkeypatch.setattr(ALLIANCE.base, "fuse_scored", fuse_scored)

    return spoiled


def reasons(outcome: FusionOutcome) -> list[tuple[str, str]]:
    return [(one.agent_id, one.reason) for one in outcome.rejected]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_failed_fusion_falls_back_to_the_egos_own_map(spoil: Spoil, error: Exception) -> None:
    alone = fuse(MESSAGES["ego"])
    spoil(error, 2)
    outcome = fuse(MESSAGES["ego"], MESSAGES["b"], replace(MESSAGES["c"], timestamp_ns=-1))
    assert len(alone.detections) and same(outcome, alone)
    assert outcome.used == ("ego",) and outcome.held == ()
    assert reasons(outcome) == [("b", "fusion failed"), ("c", "fusion failed")]
    assert outcome.rejected[0].detail == f"{type(error).__name__}: {error}".splitlines()[0]


def test_maps_that_fail_only_together_are_left_out_for_the_newest(spoil: Spoil) -> None:
    alone = fuse(MESSAGES["ego"])
    spoil(ZeroDivisionError(), 3)
    outcome = fuse(MESSAGES["ego"], MESSAGES["b"], replace(MESSAGES["c"], timestamp_ns=-1))
    assert same(outcome, alone) and reasons(outcome) == [("b", "fusion failed"), ("c", "left out")]
    assert "'b'" in outcome.rejected[1].detail


@pytest.mark.parametrize("guilty", ["b", "c", "ego"])
def test_a_map_that_cannot_be_fused_costs_its_own_sender_alone(monkeypatch: pytest.MonkeyPatch, guilty: str) -> None:
    original, others = ALLIANCE.base.fuse_scored, [name for name in MESSAGES if name != guilty]
    expected = fuse(*(MESSAGES[name] for name in others))
    bad = ALLIANCE.base.trunk(torch.from_numpy(MESSAGES[guilty].maps[0][None].copy())).maps[0]

    def fuse_scored(levels: Any, *rest: Any) -> torch.Tensor:
        if any(torch.equal(level, bad) for level in levels[0]):
            raise ZeroDivisionError(guilty)
        return original(levels, *rest)

    monkeypatch.setattr(ALLIANCE.base, "fuse_scored", fuse_scored)
    outcome = fuse(*MESSAGES.values())
    assert reasons(outcome) == [(guilty, "fusion failed")] and outcome.used == tuple(others)
    assert same(outcome, expected)


def test_with_many_senders_none_is_tried_alone(spoil: Spoil) -> None:
    spoil(ZeroDivisionError(), 2)
    crowd = [replace(MESSAGES["b"], agent_id=name) for name in "bcdefg"]
    outcome = fuse(MESSAGES["ego"], *crowd)
    assert [reason for _, reason in reasons(outcome)].count("fusion failed") == 1 and outcome.used == ("ego",)


def test_after_a_failure_no_held_map_makes_the_next_tick_fail(spoil: Spoil) -> None:
    node, ego = new_node(), MESSAGES["ego"]
    spoil(ZeroDivisionError(), 2)
    node.step(request_at(0), [at(ego, 0), at(MESSAGES["b"], 0)])
    outcome = node.step(request_at(1), [at(ego, 1)])
    assert (outcome.used, outcome.held, outcome.rejected) == (("ego",), (), ())
    spoil(ZeroDivisionError(), 3)
    again = node.step(request_at(2), [at(ego, 2), at(MESSAGES["b"], 2)])
    assert again.used == ("ego", "b") and again.rejected == ()


def test_without_a_map_of_the_ego_a_failed_fusion_finds_nothing(spoil: Spoil) -> None:
    spoil(ZeroDivisionError(), 1)
    outcome = fuse(MESSAGES["b"], MESSAGES["c"])
    assert len(outcome.detections) == 0 and outcome.used == ()
    assert reasons(outcome) == [("b", "fusion failed"), ("c", "fusion failed")]
    region = FusionRequest(0, 0, "tiny", "", pose_to_SE3([104, 56, 1.9, 0, 0, 0]), Region(6, 3, 16.0))
    in_region = new_node().step(region, [at(message, 0) for message in MESSAGES.values()])
    assert len(in_region.detections) == 0 and len(in_region.rejected) == 3


def test_a_fusion_that_always_fails_sets_the_egos_map_aside_too(spoil: Spoil) -> None:
    spoil(ZeroDivisionError(), 1)
    outcome = fuse(MESSAGES["ego"], MESSAGES["b"])
    assert len(outcome.detections) == 0
    assert reasons(outcome) == [("b", "fusion failed"), ("ego", "fusion failed")]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_what_ends_the_process_passes(spoil: Spoil, error: BaseException) -> None:
    spoil(error, 2)
    with pytest.raises(type(error)):
        fuse(MESSAGES["ego"], MESSAGES["b"])


def test_a_failure_while_decoding_boxes_is_caught_too(monkeypatch: pytest.MonkeyPatch) -> None:
    alone, original, calls = fuse(MESSAGES["ego"]), TickFusion.in_region, []

    def once(self: TickFusion, *args: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise IndexError("no such box")
        return original(self, *args)

    monkeypatch.setattr(TickFusion, "in_region", once)
    outcome = fuse(MESSAGES["ego"], MESSAGES["b"])
    assert same(outcome, alone) and reasons(outcome) == [("b", "fusion failed")]


def test_a_map_that_the_trunk_cannot_read_costs_its_own_sender_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, trunk = fuse(MESSAGES["ego"], MESSAGES["c"]), ALLIANCE.base.trunk
    broken = float(MESSAGES["b"].maps[0].sum())

    def read(features: torch.Tensor) -> Any:
        if float(features.numpy().sum()) == broken:
            raise torch.OutOfMemoryError("8 GiB")
        return trunk(features)

    monkeypatch.setattr(ALLIANCE.base, "trunk", read)
    outcome = fuse(*MESSAGES.values())
    assert reasons(outcome) == [("b", "fusion failed")] and "OutOfMemoryError" in outcome.rejected[0].detail
    assert same(outcome, expected)


def test_finite_features_whose_fusion_overflows_do_not_hide_the_egos_boxes() -> None:
    for number, reason in ((3e38, "out of bounds"), (-1e30, "out of bounds"), (65600.0, "out of bounds"), (np.inf, "not finite")):
        huge = replace(MESSAGES["b"], maps=(np.full_like(MESSAGES["b"].maps[0], number),))
        outcome = fuse(MESSAGES["ego"], huge)
        assert same(outcome, fuse(MESSAGES["ego"]))
        assert reasons(outcome) == [("b", reason)]
    largest = replace(MESSAGES["b"], maps=(np.full_like(MESSAGES["b"].maps[0], 65504.0),))
    assert fuse(MESSAGES["ego"], largest).used == ("ego", "b")


def test_the_next_message_of_a_sender_that_was_set_aside_is_read_again() -> None:
    node, ego = new_node(), MESSAGES["ego"]
    huge = replace(MESSAGES["b"], maps=(np.full_like(MESSAGES["b"].maps[0], 3e38),))
    node.step(request_at(0), [at(ego, 0), Arrival("b", huge.to_bytes(), 0)])
    outcome = node.step(request_at(1), [at(ego, 1), at(MESSAGES["b"], 1)])
    assert outcome.used == ("ego", "b") and outcome.rejected == ()
