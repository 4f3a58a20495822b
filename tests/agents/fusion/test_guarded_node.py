"""The guard at the fusion node: whatever senders send, the ego keeps its confident boxes; who harms is left out and remembered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heal.agents.fusion.guard import Guard, Trial
from heal.agents.fusion.knowledge import NodeKnowledge
from heal.agents.fusion.map_memory import KnownMap
from heal.agents.fusion.node import BLAMED, BLIND, FusionNode
from heal.agents.fusion.suspicion import Suspicion
from heal.agents.options import RunOptions
from heal.agents.records import Arrival, FusionOutcome, FusionRequest, GuardReport
from heal.agents.region import Region
from heal.detection.detections import Detections
from heal.detection.guard import GuardConfig, confident_boxes, kept_boxes
from heal.errors import UserError
from heal.message.message import Message
from heal.se3 import pose_to_SE3
from heal.types import MAP_SPLITS, Split
from tests.agents.fusion.tiny_node import ALLIANCE, MESSAGES, OPTIONS, at, message_of, request_at, same
from tests.heal.detection.test_box_guard import NMS_IOU, found, x_and_score

GUARDED = replace(OPTIONS, guard="on")
SETTINGS = GuardConfig()
OF_SPLIT = {
    split: {agent_id: message_of(agent_id, options=replace(OPTIONS, split=split)) for agent_id in ("ego", "b", "c")}
    for split in MAP_SPLITS
}


def step(options: RunOptions, *messages: Message, trust: dict[str, float] | None = None) -> FusionOutcome:
    node = FusionNode(replace(NodeKnowledge.of(ALLIANCE, options), trust=trust or {}))
    return node.step(request_at(0), [Arrival(message.agent_id, message.to_bytes(), 0) for message in messages])


def scaled(message: Message, factor: float) -> Message:
    return replace(message, maps=tuple(np.clip(part * factor, -3e38, 3e38).astype(np.float32) for part in message.maps))


def assert_nothing_lost(outcome: FusionOutcome) -> None:
    assert outcome.alone is not None and outcome.guard is not None
    confident = confident_boxes(outcome.alone, SETTINGS)
    assert kept_boxes(confident, outcome.detections, NMS_IOU).all()
    assert outcome.guard.confident == len(confident)


def test_every_run_tells_what_the_ego_finds_alone_and_a_guard_is_off_unless_asked_for() -> None:
    alone, together = step(OPTIONS, MESSAGES["ego"]), step(OPTIONS, *MESSAGES.values())
    assert together.alone is not None and alone.alone is not None
    assert torch.equal(together.alone.corners, alone.detections.corners)
    assert torch.equal(together.alone.scores, alone.detections.scores)
    assert same(step(replace(OPTIONS, guard="off"), *MESSAGES.values()), together)
    confident = confident_boxes(together.alone, SETTINGS)
    lost = int((~kept_boxes(confident, together.detections, NMS_IOU)).sum())
    assert together.guard == GuardReport(len(confident), lost) and lost > 0
    assert alone.guard == GuardReport(len(confident), 0)


def test_without_the_egos_map_and_in_regions_there_is_nothing_to_guard() -> None:
    without = step(GUARDED, MESSAGES["b"])
    assert (without.alone, without.guard) == (None, None)
    request = replace(request_at(0), ego_id="", region=Region(4, 2, 20.0))
    node = FusionNode(NodeKnowledge.of(ALLIANCE, replace(OPTIONS, region_m=20.0)))
    in_region = node.step(request, [Arrival(message.agent_id, message.to_bytes(), 0) for message in MESSAGES.values()])
    assert len(in_region.used) == 3 and (in_region.alone, in_region.guard) == (None, None)
    with pytest.raises(UserError, match="need a fusion node around the ego"):
        RunOptions(guard="on", region_m=50)
    with pytest.raises(UserError, match="guard: expected one of auto, on, off, got 'yes'"):
        RunOptions(guard="yes")  # type: ignore[arg-type]


def test_a_base_can_ask_for_the_guard_and_a_run_can_turn_it_off() -> None:
    base, before = ALLIANCE.base, ALLIANCE.base.config
    try:
        base.config = replace(before, guard=GuardConfig())
        automatic, off = step(OPTIONS, *MESSAGES.values()), step(replace(OPTIONS, guard="off"), *MESSAGES.values())
    finally:
        base.config = before
    assert same(automatic, step(GUARDED, *MESSAGES.values())) and not same(automatic, off)
    assert same(off, step(OPTIONS, *MESSAGES.values()))


def test_both_splits_give_the_same_to_the_last_bit_under_the_guard() -> None:
    feature, pyramid = (step(replace(GUARDED, split=split), *OF_SPLIT[split].values()) for split in ("feature", "pyramid"))
    assert same(feature, pyramid) and feature.guard == pyramid.guard
    assert feature.alone is not None and pyramid.alone is not None and torch.equal(feature.alone.corners, pyramid.alone.corners)


Lie = Callable[[Message, int], Message]
LIES: dict[str, Lie] = {
    "honest": lambda message, seed: message,
    "scaled": lambda message, seed: scaled(message, (-5.0, 10.0, 100.0, 1e6, 1e30)[seed % 5]),
    "negated": lambda message, seed: scaled(message, -1.0),
    "blank": lambda message, seed: scaled(message, 0.0),
    "noise": lambda message, seed: replace(
        message,
        maps=tuple((10 * np.random.default_rng(seed).standard_normal(part.shape)).astype(np.float32) for part in message.maps),
    ),
    "moved": lambda message, seed: replace(message, world_SE3_agent=pose_to_SE3([100 + seed % 9 - 4, 50, 1.9, 0, seed, 0])),
    "sure everywhere": lambda message, seed: replace(message, scores=tuple(np.ones_like(part) for part in message.scores)),
}


@pytest.mark.parametrize("split", MAP_SPLITS)
@given(b=st.sampled_from(sorted(LIES)), c=st.sampled_from(sorted(LIES)), seed=st.integers(0, 10_000), swapped=st.booleans())
@settings(max_examples=settings().max_examples // 10)  # 10 in the suite, more in a nightly run
def test_no_sender_takes_a_confident_box_from_the_ego(split: Split, b: str, c: str, seed: int, swapped: bool) -> None:
    messages = OF_SPLIT[split]
    # Swapped, b and c send each other's map, or b the ego's own, as if replayed.
    of_b, of_c = (messages["c"], messages["ego"]) if swapped else (messages["b"], messages["c"])
    senders = [LIES[b](replace(of_b, agent_id="b"), seed), LIES[c](replace(of_c, agent_id="c"), seed + 1)]
    outcome = step(replace(GUARDED, split=split), messages["ego"], *senders)
    assert_nothing_lost(outcome)
    reasons = {rejection.reason for rejection in outcome.rejected}
    assert reasons <= {BLAMED, "fusion failed", "left out", "not finite", "out of bounds"}


def test_a_sender_that_is_blamed_is_rejected_in_this_tick_and_has_less_weight_in_the_next() -> None:
    liar = scaled(MESSAGES["b"], 60_000 / np.abs(MESSAGES["b"].maps[0]).max())
    node, fresh = (FusionNode(NodeKnowledge.of(ALLIANCE, GUARDED)) for _ in range(2))
    first = node.step(request_at(0), [at(MESSAGES["ego"], 0), at(liar, 0)])
    assert first.guard is not None and first.guard.blamed == ("b",) and first.used == ("ego",)
    [rejection] = first.rejected
    assert (rejection.agent_id, rejection.reason) == ("b", BLAMED)
    assert rejection.detail == (f"with its map the fusion keeps too few of the ego's {first.guard.confident} confident boxes")
    # b is honest from now on, yet its map counts less for some time, unless another recording has begun.
    arrivals = [at(MESSAGES["ego"], 1), at(MESSAGES["b"], 1)]
    suspected, trusting = node.step(request_at(1), arrivals), fresh.step(request_at(1), arrivals)
    assert not same(suspected, trusting)
    elsewhere = replace(request_at(1), sequence="another")
    assert same(node.step(elsewhere, arrivals), trusting)


def test_suspicion_fades_by_time_stamps_and_adds_up() -> None:
    suspicion = Suspicion(GuardConfig(suspicion=0.1, forgive_ms=1000))

    def at_ms(time_ms: float, sequence: str = "s") -> FusionRequest:
        return replace(request_at(0), timestamp_ns=round(time_ms * 1e6), sequence=sequence)

    suspicion.begin_tick(at_ms(0))
    suspicion.add("b")
    assert (suspicion.factor("b"), suspicion.factor("c")) == (0.1, 1.0)
    suspicion.begin_tick(at_ms(1000))
    assert suspicion.factor("b") == pytest.approx(0.1**0.5)
    suspicion.add("b")
    assert suspicion.factor("b") == pytest.approx(0.1**1.5)
    suspicion.begin_tick(at_ms(500))  # time that goes back changes nothing
    assert suspicion.factor("b") == pytest.approx(0.1**1.5)
    suspicion.begin_tick(at_ms(20_000))
    assert suspicion.factor("b") == 1.0
    suspicion.add("b")
    suspicion.begin_tick(at_ms(20_000, "t"))
    assert suspicion.factor("b") == 1.0


def _map_of(agent_id: str) -> KnownMap:
    return KnownMap(agent_id, "m1", 0, 0, np.eye(4), (), ())


EGO, HONEST, LIAR, OTHER_LIAR = (_map_of(agent_id) for agent_id in ("ego", "honest", "liar", "other liar"))
ALONE = found((-20, 0.9), (0, 0.8), (20, 0.7), (30, 0.6))


def _fuse(maps: Sequence[KnownMap]) -> Detections:
    """The honest one adds a car; with a liar only the ego's first box is left, with both none."""
    liars = sum(known in (LIAR, OTHER_LIAR) for known in maps)
    boxes = [(-20, 0.9), (0, 0.8), (20, 0.7), (30, 0.6)][: (4, 1, 0)[liars]]
    return found(*boxes, *([(40, 0.95)] if HONEST in maps else []))


@pytest.mark.parametrize(
    ("senders", "blamed"),
    [
        ((HONEST,), ()),
        ((HONEST, LIAR), ("liar",)),
        ((HONEST, LIAR, OTHER_LIAR), ("liar", "other liar")),
        ((LIAR, OTHER_LIAR), ("liar", "other liar")),
    ],
)
def test_those_who_harm_are_left_out_and_those_who_help_stay(senders: tuple[KnownMap, ...], blamed: tuple[str, ...]) -> None:
    maps = (EGO, *senders)
    suspicion = Suspicion(SETTINGS)
    verdict = Guard(SETTINGS, NMS_IOU, suspicion).judge(ALONE, Trial(maps, _fuse(maps)), _fuse)
    assert verdict.report.blamed == blamed and verdict.report.put_back == 0
    assert x_and_score(verdict.detections) == x_and_score(_fuse([known for known in maps if known.agent_id not in blamed]))
    assert [suspicion.factor(known.agent_id) for known in senders] == [
        SETTINGS.suspicion if known.agent_id in blamed else 1.0 for known in senders
    ]


def test_the_search_fuses_no_maps_twice_and_its_work_grows_with_the_number_of_senders_alone() -> None:
    """Each liar is harmless alone, and two together take most boxes from the ego."""
    for honest, liars in ((1, 2), (0, 3), (2, 40), (60, 4)):
        crowd = [_map_of(f"honest {i}") for i in range(honest)] + [_map_of(f"liar {i}") for i in range(liars)]
        fused: list[tuple[str, ...]] = []

        def fuse(maps: Sequence[KnownMap], fused: list[tuple[str, ...]] = fused) -> Detections:
            fused.append(tuple(known.agent_id for known in maps))
            harmful = sum(known.agent_id.startswith("liar") for known in maps)
            return found(*[(-20, 0.9), (0, 0.8), (20, 0.7), (30, 0.6)][: 4 if harmful < 2 else 1])

        maps = (EGO, *crowd)
        verdict = Guard(SETTINGS, NMS_IOU, Suspicion(SETTINGS)).judge(ALONE, Trial(maps, fuse(maps)), fuse)
        assert verdict.report.lost == 3 and verdict.report.put_back == 0
        assert len(set(fused)) == len(fused) <= 2 * len(crowd) + 10
        assert sum(known.agent_id.startswith("liar") for known in verdict.maps) < 2 <= len(verdict.maps)


def test_an_honest_sender_with_one_lost_box_is_not_blamed_and_the_box_comes_back() -> None:
    fused = found((-20, 0.9), (0, 0.8), (20, 0.7))
    verdict = Guard(SETTINGS, NMS_IOU, Suspicion(SETTINGS)).judge(ALONE, Trial((EGO, HONEST), fused), _fuse)
    assert verdict.report == GuardReport(confident=4, lost=1, put_back=1)
    assert x_and_score(verdict.detections) == x_and_score(ALONE) and verdict.maps == (EGO, HONEST)


def test_trust_weighs_types_against_each_other_the_egos_too() -> None:
    sent = [MESSAGES["ego"], *(replace(MESSAGES[name], agent_type="m2") for name in "bc")]
    plain, own = step(OPTIONS, *sent), step(OPTIONS, MESSAGES["ego"])
    assert same(step(OPTIONS, *sent, trust={"m1": 1.0, "m2": 1.0, "m3": 0.1}), plain)
    given = ({"m1": 0.5, "m2": 0.5}, {"m1": 1.0, "m2": 1e-9}, {"m1": 1e-9, "m2": 1.0}, {"m1": 1.0, "m3": 1e-9})
    equal, others, ego, unknown = (step(OPTIONS, *sent, trust=trust) for trust in given)
    torch.testing.assert_close(equal.detections.scores, plain.detections.scores)
    # With next to no trust in the others the ego's map stands as it is where the ego has a score, which is everywhere.
    assert len(others.detections) == len(own.detections)
    torch.testing.assert_close(others.detections.scores, own.detections.scores, atol=1e-4, rtol=0)
    assert not same(ego, plain) and not same(ego, others)
    assert same(unknown, others)  # a type that nobody knows is trusted least
    assert same(step(OPTIONS, MESSAGES["ego"], trust={"m1": 1e-9}), own)  # alone, an agent needs no trust


def test_a_blind_ego_is_the_frame_and_no_part_of_the_fusion() -> None:
    blind = step(replace(OPTIONS, blind_ego=True), *MESSAGES.values())
    assert blind.used == ("b", "c") and (blind.alone, blind.guard) == (None, None)
    assert [(rejection.agent_id, rejection.reason) for rejection in blind.rejected] == [("ego", BLIND)]
    others = replace(OPTIONS, correct_poses="off")
    assert same(step(replace(others, blind_ego=True), *MESSAGES.values()), step(others, MESSAGES["b"], MESSAGES["c"]))
    assert not len(step(replace(OPTIONS, blind_ego=True), MESSAGES["ego"]).detections)
