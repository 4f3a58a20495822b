"""Free space in a run: the ego tells its node alone, nobody has weight there, and who is not the ego is not believed."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from heal.agents.agent import AgentHost, AgentRequest, AgentSetup
from heal.agents.fusion.defence import IN_FREE_SPACE, Defence
from heal.agents.fusion.knowledge import NodeKnowledge
from heal.agents.fusion.map_memory import KnownMap
from heal.agents.fusion.node import FusionNode
from heal.agents.fusion.suspicion import Suspicion
from heal.agents.local_runtime import LocalRuntime
from heal.agents.network.network import PerfectNetwork
from heal.agents.options import RunOptions
from heal.agents.records import FusionOutcome
from heal.agents.runtime import open_runtime
from heal.defence.free_space import free_cells, without_weight_in
from heal.detection.guard import GuardConfig
from heal.message.codec import FLOAT32
from heal.message.message import Message
from heal.se3 import relative_SE3
from heal.types import MAP_SPLITS, BoolMask, Split
from tests.agents.fusion.road_source import ROAD, RoadSource
from tests.agents.fusion.tiny_node import ALLIANCE, OPTIONS, at, message_of, request_at, same
from tests.agents.tiny_run import GRID, assert_same_results, by_id

AGENTS = ("ego", "b", "c")


@cache
def _message(agent_id: str, split: Split, free: bool | None = None) -> Message:
    message = message_of(agent_id, options=replace(OPTIONS, split=split))
    return message if free is None else replace(message, free=np.full((GRID.ny, GRID.nx), free))


def _step(defence: str, split: Split, *messages: Message) -> FusionOutcome:
    options = replace(OPTIONS, split=split, defence=defence, guard="off")
    return FusionNode(NodeKnowledge.of(ALLIANCE, options)).step(request_at(0), [at(message, 0) for message in messages])


def _is_inside(outcome: FusionOutcome) -> torch.Tensor:
    return (outcome.detections.boxes[:, :2].abs() < 6).all(dim=1)


def _packed(own: bool, options: RunOptions) -> bytes:
    setup = AgentSetup.of(ALLIANCE, "m1", RoadSource(), options)
    [(message, _)] = AgentHost(setup).step([AgentRequest(0, "ego", FLOAT32, own=own)])
    return message


@pytest.mark.parametrize("split", MAP_SPLITS)
def test_a_defended_ego_tells_its_own_node_its_free_cells_and_no_other_message_changes(split: Split) -> None:
    off = replace(OPTIONS, split=split)
    on = replace(off, defence="on")
    told = Message.from_bytes(_packed(True, on))
    assert told.free is not None and told.free.any() and np.array_equal(told.free, free_cells(ROAD, GRID))
    assert _packed(False, on) == _packed(True, off) == replace(told, free=None).to_bytes()


@pytest.mark.parametrize("split", MAP_SPLITS)
def test_where_the_ego_saw_empty_ground_its_own_map_counts_alone(split: Split) -> None:
    b, c = _message("b", split), _message("c", split)
    alone = _step("on", split, _message("ego", split))
    seen = _step("on", split, _message("ego", split, True), b, c)
    # The free ground ends at the border of the ego's grid, so the others' maps count in the cells that lie half beyond it.
    inside, expected = (outcome.detections.select(_is_inside(outcome)) for outcome in (seen, alone))
    assert torch.equal(inside.boxes, expected.boxes) and torch.equal(inside.scores, expected.scores) and len(inside)
    assert seen.used == ("ego", "b", "c") and seen.rejected == ()
    assert not same(_step("on", split, _message("ego", split), b, c), alone)
    nothing = _step("on", split, _message("ego", split, False), b, c)
    assert same(nothing, _step("off", split, _message("ego", split), b, c))
    assert same(_step("off", split, _message("ego", split, True), b, c), nothing)
    assert not same(seen, nothing)


@pytest.mark.parametrize("split", MAP_SPLITS)
def test_nobody_but_the_ego_is_believed_and_an_old_map_of_the_ego_tells_nothing(split: Split) -> None:
    honest = [_message(agent_id, split) for agent_id in AGENTS]
    liar = _message("b", split, True)
    assert same(_step("on", split, honest[0], liar, honest[2]), _step("off", split, *honest))
    options = replace(OPTIONS, split=split, defence="on", guard="off")
    node = FusionNode(NodeKnowledge.of(ALLIANCE, options))
    node.step(request_at(0), [at(_message("ego", split, True), 0)])
    without_ego = node.step(request_at(1), [at(honest[1], 1), at(honest[2], 1)])
    plain = FusionNode(NodeKnowledge.of(ALLIANCE, replace(options, defence="off")))
    plain.step(request_at(0), [at(_message("ego", split), 0)])
    assert same(without_ego, plain.step(request_at(1), [at(honest[1], 1), at(honest[2], 1)]))


def test_vehicles_planted_on_empty_ground_change_no_box_and_vehicles_elsewhere_do() -> None:
    honest, ego = _message("b", "pyramid"), _message("ego", "pyramid")
    free = np.zeros((GRID.ny, GRID.nx), np.bool_)
    free[:, :20] = True
    ego = replace(ego, free=free)
    weightless = _weightless(free, honest, ego)
    before = _step("on", "pyramid", ego, honest)
    assert same(before, _step("on", "pyramid", ego, _planted(honest, weightless)))
    assert not same(before, _step("on", "pyramid", ego, _planted(honest, [~places for places in weightless])))
    assert not same(_step("off", "pyramid", ego, honest), _step("off", "pyramid", ego, _planted(honest, weightless)))


def test_who_claims_a_whole_car_on_ground_that_the_ego_saw_to_be_empty_is_rejected_with_all_of_its_map() -> None:
    suspicion = Suspicion(GuardConfig())
    defence = Defence(ALLIANCE.base, replace(OPTIONS, defence="on"), {}, suspicion)
    free = torch.zeros(1, 1, GRID.ny, GRID.nx)
    free[..., :20] = 1.0
    ego = replace(_claiming("ego", 0), free=free)
    liar, edge, honest = _claiming("b", 15), _claiming("c", 7), _claiming("d", 15, column=25)
    found = defence.disputed(request_at(0), [ego, liar, edge, honest])
    assert {agent_id: reason for agent_id, (reason, _) in found.items()} == {"b": IN_FREE_SPACE}
    assert "on 10 m² of ground" in found["b"][1] and suspicion.factor("b") == 0.1 and suspicion.factor("c") == 1.0
    assert defence.disputed(request_at(0), [ego, replace(liar, tick=-1)]) == {}  # what stood there before may have driven away
    assert defence.disputed(request_at(0), [replace(ego, free=None), liar]) == {}
    assert defence.disputed(request_at(0), [liar, replace(edge, free=torch.ones_like(free))]) == {}


def _claiming(agent_id: str, cells: int, column: int = 8) -> KnownMap:
    """Return what the node knows of an agent at the ego's place that claims vehicles on so many cells beside a column."""
    score = torch.full((1, 1, GRID.ny, GRID.nx), 0.01)
    score[0, 0, 5 : 5 + cells, column] = 0.9
    return KnownMap(agent_id, "m1", 0, 0, np.eye(4), (score,), (score,))


def _weightless(free: BoolMask, message: Message, ego: Message) -> list[BoolMask]:
    """Return per scale the cells of a message that have no weight, without those at the border of such ground."""
    ego_SE3_agent = relative_SE3(ego.world_SE3_agent, message.world_SE3_agent)
    ones = [torch.ones(1, 1, *level.shape[1:]) for level in message.maps]
    found = without_weight_in(torch.from_numpy(free)[None, None].float(), ones, ego_SE3_agent, GRID)
    grown = [torch.nn.functional.max_pool2d(score, 3, 1, 1)[0, 0].numpy() == 0 for score in found]
    assert all(places.any() for places in grown)
    return grown


def _planted(message: Message, places: list[BoolMask]) -> Message:
    """Return the message with its maps turned round in some places, and with the scores that follow."""
    maps = tuple(np.where(where, level[:, ::-1, ::-1], level) for level, where in zip(message.maps, places, strict=True))
    fusion = ALLIANCE.base.fusion
    with torch.no_grad():
        scores = fusion.scores(fusion.occupancy([torch.from_numpy(level)[None] for level in maps]))
    return replace(message, maps=maps, scores=tuple(score[0, 0].numpy() for score in scores))


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_both_runtimes_give_the_same_boxes_and_free_space_changes_them() -> None:
    options, types = RunOptions(defence="on", guard="off"), by_id({"ego": "m1", "b": "m2", "c": "m1", "d": "m2"})
    with open_runtime("ray", ALLIANCE, RoadSource(), types, PerfectNetwork(), options) as runtime:
        on_ray = list(runtime.run(range(4)))
    with LocalRuntime(ALLIANCE, RoadSource(), types, options=options) as runtime:
        local = list(runtime.run(range(4)))
    assert_same_results(on_ray, local)
    with LocalRuntime(ALLIANCE, RoadSource(), types, options=replace(options, defence="off")) as runtime:
        undefended = list(runtime.run(range(4)))
    assert not any(torch.equal(a.detections.scores, b.detections.scores) for a, b in zip(local, undefended, strict=True))
