"""The defence of a fusion node: honest senders change nothing, each lie is caught in its own tick, and liars come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from unittest.mock import patch

import numpy as np
import pytest
import torch

from heal.agents.fusion.defence import DISPUTED, MISPLACED, MOTION, SCORES, SHUT_OUT, STATISTICS, Defence
from heal.agents.fusion.knowledge import NodeKnowledge
from heal.agents.fusion.map_memory import KnownMap
from heal.agents.fusion.node import FusionNode
from heal.agents.fusion.suspicion import Suspicion
from heal.agents.options import RunOptions
from heal.agents.records import Arrival, FusionOutcome
from heal.defence.recording import StatisticsRecorder
from heal.defence.statistics import MapStatistics
from heal.detection.guard import GuardConfig
from heal.errors import UserError
from heal.message.message import Message
from heal.se3 import pose_to_SE3
from heal.types import MAP_SPLITS, Split
from tests.agents.fusion.tiny_node import ALLIANCE, OPTIONS, SOURCE, at, message_of, request_at, same

AGENTS = ("ego", "b", "c")


@cache
def _messages(split: Split) -> dict[str, Message]:
    return {agent_id: message_of(agent_id, options=replace(OPTIONS, split=split)) for agent_id in AGENTS}


@cache
def _statistics() -> MapStatistics:
    """Return the statistics of the tiny world's maps; without agreements, so that an ego disputes nobody."""
    recorder, network = StatisticsRecorder(), ALLIANCE.agent("m1")
    for index in range(10):
        for agent_id in ("a", *AGENTS) if index < 5 else ("d", "ego"):
            frame = replace(SOURCE.agent_frame(index, agent_id if agent_id != "a" else "b"), agent_id=agent_id)
            with torch.no_grad():
                feature = network(network.prepare([frame]))
                levels = ALLIANCE.trunk.trunk(feature)
                recorder.add_map(feature, levels.maps, ALLIANCE.trunk.scores(levels.occupancy))
    return recorder.statistics()


def _node(split: Split = "feature") -> FusionNode:
    options = replace(OPTIONS, split=split, defence="on", guard="off")
    return FusionNode(replace(NodeKnowledge.of(ALLIANCE, options), statistics={"m1": _statistics()}))


def _times(factor: float) -> Callable[[Message], Message]:
    return lambda message: replace(message, maps=tuple(np.float32(factor) * level for level in message.maps))


def _moved(message: Message, x_m: float) -> Message:
    return replace(message, world_SE3_agent=pose_to_SE3([x_m, 0, 0, 0, 0, 0]) @ message.world_SE3_agent)


def _step(node: FusionNode, tick: int, b: Message, split: Split = "feature") -> FusionOutcome:
    messages = {**_messages(split), "b": b}
    return node.step(
        request_at(0) if tick == 0 else replace(request_at(0), tick=tick, timestamp_ns=tick * 100_000_000),
        [at(message, tick) for message in messages.values()],
    )


def _reasons(outcome: FusionOutcome) -> list[tuple[str, str]]:
    return [(rejection.agent_id, rejection.reason) for rejection in outcome.rejected]


@pytest.mark.parametrize("split", MAP_SPLITS)
def test_honest_senders_give_the_boxes_of_an_undefended_node_to_the_last_bit(split: Split) -> None:
    node = _node(split)
    plain = FusionNode(NodeKnowledge.of(ALLIANCE, replace(OPTIONS, split=split, guard="off")))
    for tick in range(4):
        defended, undefended = (_step(one, tick, _messages(split)["b"], split) for one in (node, plain))
        assert defended.rejected == () and same(defended, undefended)


@pytest.mark.parametrize("split", MAP_SPLITS)
@pytest.mark.parametrize("factor", [10.0, -1.0, 0.0, 1e3], ids=["loud", "negated", "blank", "deafening"])
def test_a_map_that_is_not_of_its_type_is_rejected(split: Split, factor: float) -> None:
    outcome = _step(_node(split), 0, _times(factor)(_messages(split)["b"]), split)
    assert _reasons(outcome) == [("b", STATISTICS)] and outcome.used == ("ego", "c")
    assert "half ranges of honest maps" in outcome.rejected[0].detail


def test_scores_that_do_not_follow_from_the_scales_are_rejected() -> None:
    honest = _messages("pyramid")["b"]
    sure = replace(honest, scores=tuple(np.where(score < 0.4, 1.0, score).astype(np.float32) for score in honest.scores))
    assert _reasons(_step(_node("pyramid"), 0, sure, "pyramid")) == [("b", SCORES)]
    unsent = replace(honest, scores=tuple(np.where(score < 0.4, 0.0, score).astype(np.float32) for score in honest.scores))
    assert SCORES not in {reason for _, reason in _reasons(_step(_node("pyramid"), 0, unsent, "pyramid"))}


def test_who_was_honest_for_fifty_ticks_is_caught_in_the_tick_of_the_lie() -> None:
    node, honest = _node(), _messages("feature")["b"]
    assert not any(_step(node, tick, honest).rejected for tick in range(50))
    assert _reasons(_step(node, 50, _times(10.0)(honest))) == [("b", STATISTICS)]
    assert _reasons(_step(node, 51, _moved(honest, 20.0))) == [("b", MOTION)]
    assert _step(node, 52, honest).rejected == ()


def test_who_lies_again_and_again_is_shut_out_and_comes_back() -> None:
    node, honest = _node(), _messages("feature")["b"]
    caught = [_reasons(_step(node, tick, _times(10.0)(honest))) for tick in range(6)]
    assert caught == [[("b", STATISTICS)]] * 4 + [[("b", SHUT_OUT)]] * 2
    later = [_reasons(_step(node, tick, honest)) for tick in range(6, 80)]
    assert later[0] == [("b", SHUT_OUT)] and later[-1] == []
    assert sum(reasons != [] for reasons in later) == later.index([])


def _seen(agent_id: str, cars: list[tuple[int, int]], tick: int = 0) -> KnownMap:
    """Return what the node knows of an agent at the ego's place that sees vehicles of 3 x 5 cells at these rows and columns."""
    score = torch.full((1, 1, ALLIANCE.grid.ny, ALLIANCE.grid.nx), 0.01)
    for row, column in cars:
        score[..., row - 1 : row + 2, column - 2 : column + 3] = 0.9
    return KnownMap(agent_id, "m1", tick, 0, np.eye(4), (score,), (score,))


def test_a_sender_whose_vehicles_the_ego_does_not_see_is_disputed_and_no_agreement_of_liars_helps() -> None:
    statistics = replace(_statistics(), least_confirmed=0.4, least_noticed=0.4)
    suspicion = Suspicion(GuardConfig())
    defence = Defence(ALLIANCE.base, replace(OPTIONS, defence="on"), {"m1": statistics}, suspicion)
    cars, elsewhere = [(8, 8), (20, 20)], [(8, 24), (24, 8)]
    ego, honest, blind = _seen("ego", cars), _seen("b", cars), _seen("e", [])
    liars = [_seen("c", elsewhere), _seen("d", elsewhere)]
    found = defence.disputed(request_at(0), [ego, honest, *liars, blind])
    assert {agent_id: (reason, detail.split(" of the vehicles")[0]) for agent_id, (reason, detail) in found.items()} == {
        "c": (DISPUTED, "the ego confirms 0%"),
        "d": (DISPUTED, "the ego confirms 0%"),
        "e": (DISPUTED, "it has noticed 0%"),
    }
    assert [suspicion.factor(agent_id) for agent_id in "bcde"] == [1.0, 0.1, 0.1, 0.1]
    assert defence.disputed(request_at(0), [honest, *liars]) == {}  # without the ego's own map nothing can be compared
    assert defence.disputed(request_at(1), [ego, *liars]) == {}  # nor with an old one
    weak_type = {"m1": statistics, "m2": _statistics()}  # honest senders of m2 notice little
    defence = Defence(ALLIANCE.base, replace(OPTIONS, defence="on"), weak_type, Suspicion(GuardConfig()))
    liar, weak_eyes = replace(liars[0], agent_type="m2"), replace(blind, agent_type="m2")
    assert defence.disputed(request_at(0), [ego, liar, weak_eyes]).keys() == {"c"}
    weak = Defence(ALLIANCE.base, replace(OPTIONS, defence="on"), {"m1": _statistics()}, Suspicion(GuardConfig()))
    assert weak.disputed(request_at(0), [ego, *liars]) == {}


def test_a_sender_that_is_not_where_it_says_is_disputed_by_what_both_see_unless_its_map_is_old() -> None:
    suspicion = Suspicion(GuardConfig())
    defence = Defence(ALLIANCE.base, replace(OPTIONS, defence="on"), {}, suspicion)
    cars = [(6, 6), (9, 22), (18, 12), (24, 26)]
    ego, honest, liar = _seen("ego", cars), _seen("b", cars), _seen("c", [(row, column + 3) for row, column in cars])
    [(agent_id, (reason, detail))] = defence.disputed(request_at(0), [ego, honest, liar]).items()
    assert (agent_id, reason) == (
        "c",
        MISPLACED,
    ) and "2.3 m from where it says" in detail  # drawn a little towards the claimed pose
    assert suspicion.factor("c") == 0.1 and suspicion.factor("b") == 1.0
    assert defence.disputed(request_at(0), [ego, replace(liar, tick=-1)]) == {}


def test_what_the_ego_disputes_is_not_fused_and_is_told() -> None:
    node, messages = _node(), _messages("feature")
    with patch.object(Defence, "disputed", lambda self, request, maps: {"b": (DISPUTED, "made up")}):
        outcome = _step(node, 0, messages["b"])
    assert [(one.agent_id, one.reason, one.detail) for one in outcome.rejected] == [("b", DISPUTED, "made up")]
    assert outcome.used == ("ego", "c")
    without = _node().step(request_at(0), [at(messages[agent_id], 0) for agent_id in ("ego", "c")])
    assert same(outcome, without)


def test_a_type_without_statistics_may_not_be_louder_than_all_others_and_the_ego_is_not_checked() -> None:
    honest = replace(_messages("feature")["b"], agent_type="new")
    assert _step(_node(), 0, honest).rejected == ()
    assert _reasons(_step(_node(), 0, _times(10.0)(honest))) == [("b", STATISTICS)]
    loud = _times(10.0)(_messages("feature")["ego"])
    outcome = _node().step(request_at(0), [Arrival("ego", loud.to_bytes(), 0)])
    assert outcome.used == ("ego",) and outcome.rejected == ()


def test_a_defence_needs_maps() -> None:
    with pytest.raises(UserError, match="split=boxes"):
        RunOptions(split="boxes", defence="on")
