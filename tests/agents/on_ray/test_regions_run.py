"""Runs with regions: messages are counted once, any number of actors gives the same, nobody is lost at a border."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import heal
from heal.agent_types import same_type
from heal.agents.agent import AgentHost, AgentRequest, AgentSetup
from heal.agents.deployment import Deployment, PlannedFault
from heal.agents.fusion.division import node_of
from heal.agents.fusion.host import NodeHost
from heal.agents.fusion.knowledge import NodeKnowledge
from heal.agents.fusion.node import FusionNode
from heal.agents.fusion.tick_fusion import BORDER_M
from heal.agents.local_runtime import LocalRuntime
from heal.agents.message_records import MessageCounts
from heal.agents.network.network import Network, PerfectNetwork
from heal.agents.network.spec import LinkSpec
from heal.agents.options import RunOptions
from heal.agents.records import OUT_OF_RANGE, Arrival, FusionOutcome, FusionRequest, TickResult
from heal.agents.region import Region
from heal.agents.tick import TickCoordinator, arrivals_of
from heal.agents.tick_plan import AgentStep
from heal.detection.boxes import bottom_rectangles
from heal.detection.detections import Detections
from heal.detection.metrics import ApAccumulator
from heal.detection.rotated_iou import rotated_iou
from heal.message.codec import FLOAT32
from heal.se3 import pose_to_SE3
from tests.agents.tiny_run import TICK_NS, TinyAlliance, TinySource, assert_same_results

ALLIANCE = TinyAlliance()
# Of the hundreds of boxes that random weights find everywhere, tens are enough to be compared in each of a dozen regions.
ALLIANCE.base.config = replace(ALLIANCE.base.config, decode=replace(ALLIANCE.base.config.decode, score_threshold=0.55))
# All drive 0.1 m a tick along x, from 100, 105.75 and 111.5 m: c comes to the border at 112 m in tick 5.
SOURCE = TinySource(scenarios=(("ego", "b", "c"),), ticks_each=8, spacing_m=5.75)
TYPES = same_type("m1")
OPTIONS = RunOptions(region_m=16.0)
DROP = replace(OPTIONS, late="drop")
ROUGH = LinkSpec.parse("delay:80,jitter:60,loss:0.3")
DEMO_ALLIANCE = Path(heal.__file__).parent / "configs" / "demo" / "alliance"


def run_local(network: Network | None = None, options: RunOptions = OPTIONS, source: TinySource = SOURCE) -> list[TickResult]:
    with LocalRuntime(ALLIANCE, source, TYPES, network, options) as runtime:
        return list(runtime.run(range(len(source))))


def arrival(agent_id: str, tick: int = 0) -> Arrival:
    setup = AgentSetup.of(ALLIANCE, "m1", SOURCE, OPTIONS)
    return Arrival(agent_id, AgentHost(setup).step([AgentRequest(tick, agent_id, FLOAT32)])[0][0], tick)


ARRIVALS = [arrival(agent_id) for agent_id in ("ego", "b", "c")]


def request(region: Region, tick: int = 0, yaw_deg: float = 0.0) -> FusionRequest:
    return FusionRequest(tick, tick * TICK_NS, "tiny", "", pose_to_SE3([*region.centre_m, 1.9, 0, yaw_deg, 0]), region)


def boxes_of(outcome: FusionOutcome | TickResult) -> tuple[Any, ...]:
    return outcome.detections.corners.tolist(), outcome.detections.scores.tolist()


@pytest.mark.parametrize("yaw_deg", [0.0, 30.0])
def test_a_regions_node_finds_what_is_in_its_region_and_close_to_its_border(yaw_deg: float) -> None:
    region = Region(6, 3, 16.0)
    node, asked = FusionNode(NodeKnowledge.of(ALLIANCE, OPTIONS)), request(region, 0, yaw_deg)
    found = node.step(asked, ARRIVALS)
    everything = FusionNode(NodeKnowledge.of(ALLIANCE, OPTIONS)).step(replace(asked, region=None), ARRIVALS).detections
    centres = everything.boxes[:, :3].double().numpy() @ asked.world_SE3_frame[:3, :3].T + asked.world_SE3_frame[:3, 3]
    inside = np.abs(centres[:, :2] - region.centre_m).max(axis=1) <= 8 + BORDER_M
    assert found.used == ("b", "c", "ego")
    assert 0 < inside.sum() < len(inside)
    assert boxes_of(found)[0] == everything.select(torch.from_numpy(inside)).corners.tolist()


def test_who_claims_to_be_far_from_a_region_is_out_of_its_range() -> None:
    near, far = Region(6, 3, 16.0), Region(15, 3, 16.0)
    host = NodeHost(NodeKnowledge.of(ALLIANCE, replace(OPTIONS, comm_range_m=20)))
    at_home, elsewhere = host.step([(request(near), ARRIVALS), (request(far), ARRIVALS)])
    assert at_home.rejected == () and elsewhere.used == ()
    assert {(one.agent_id, one.reason) for one in elsewhere.rejected} == {(name, OUT_OF_RANGE) for name in ("ego", "b", "c")}
    assert "140 m from region (15, 3), allowed are 20" in [one.detail for one in elsewhere.rejected]


def test_regions_of_one_process_read_a_message_once_and_forget_when_they_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    regions, trunk, reads = [Region(6, 3, 16.0), Region(7, 3, 16.0)], ALLIANCE.base.trunk, []
    alone = [FusionNode(NodeKnowledge.of(ALLIANCE, OPTIONS)).step(request(region), ARRIVALS) for region in regions]
    monkeypatch.setattr(ALLIANCE.base, "trunk", lambda features: reads.append(1) or trunk(features))
    host = NodeHost(NodeKnowledge.of(ALLIANCE, OPTIONS))
    arrivals = [replace(one, buffer=np.frombuffer(one.buffer, np.uint8).copy()) for one in ARRIVALS]
    buffers = [weakref.ref(one.buffer) for one in arrivals]
    together = host.step([(request(region), arrivals) for region in regions])
    del arrivals
    assert [buffer() for buffer in buffers] == [None] * 3
    assert [boxes_of(outcome) for outcome in together] == [boxes_of(outcome) for outcome in alone] and len(reads) == 3
    assert [len(outcome.held) for outcome in host.step([(request(region, 1), []) for region in regions])] == [3, 3]
    host.step([(request(regions[1], 2), [])])
    assert [len(outcome.held) for outcome in host.step([(request(region, 3), []) for region in regions])] == [0, 3]


def test_every_message_crosses_the_network_once_the_egos_too() -> None:
    results = run_local()
    counts = MessageCounts.of(record for result in results for record in result.messages)
    assert counts == MessageCounts(sent=24, arrived=24, used=24, bytes=24 * len(ARRIVALS[0].buffer))
    assert [result.handed_over for result in results] == [()] * 5 + [("c",), (), ()]
    assert all(len(result.detections) for result in results)
    lost = run_local(LinkSpec.parse("loss:1").network(0), DROP)
    assert {record.status for result in lost for record in result.messages} == {"lost"} and not any(map(found_in, lost))


def found_in(result: TickResult) -> int:
    return len(result.detections)


def test_messages_on_bad_links_are_accounted_for_and_older_maps_stand_in_once() -> None:
    results = run_local(ROUGH.network(seed=4))
    counts = MessageCounts.of(record for result in results for record in result.messages)
    assert counts.late and counts.lost and counts.sent == 24 == counts.arrived + counts.late + counts.lost
    assert counts.arrived == counts.used
    assert any(result.held for result in results)
    for result in results:
        names, used = [held.agent_id for held in result.held], [one.agent_id for one in result.messages if one.status == "used"]
        assert len(set(names)) == len(names) and not set(names) & set(used)


def run_ray(options: RunOptions, deployment: Deployment, network: Network) -> list[TickResult]:
    from heal.agents.on_ray.runtime import RayRuntime

    with RayRuntime(ALLIANCE, SOURCE, TYPES, network, options, deployment) as runtime:
        return list(runtime.run(range(len(SOURCE))))


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("nodes", [1, 2])
def test_any_number_of_actors_gives_the_same_to_the_last_bit(nodes: int) -> None:
    results = run_ray(OPTIONS, Deployment(agents_per_actor=3, fusion_nodes=nodes), ROUGH.network(seed=4))
    expected = run_local(ROUGH.network(seed=4))
    assert_same_results(results, expected)
    assert [result.handed_over for result in results] == [result.handed_over for result in expected]


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_a_fusion_node_that_breaks_takes_its_regions_with_it_and_no_others() -> None:
    deployment = Deployment(agents_per_actor=3, fusion_nodes=2, faults=PlannedFault.parse("crash:node:1@4"))
    results = run_ray(DROP, deployment, PerfectNetwork())
    assert [fault.kind for result in results for fault in result.faults] == ["fusion node crashed", "fusion node restarted"]
    whole, half = run_local(options=DROP), run_without(node=1)
    away = [result.tick for result, expected in zip(results, whole, strict=True) if boxes_of(result) != boxes_of(expected)]
    assert away == [4]
    for tick in away:
        assert boxes_of(results[tick]) == boxes_of(half[tick])
    # All agents are heard by the other node too.
    assert {record.status for result in results for record in result.messages} == {"used"}


def run_without(node: int) -> list[TickResult]:
    """What is found where one of two actors never answers."""
    coordinator: TickCoordinator[bytes] = TickCoordinator(ALLIANCE, SOURCE, TYPES, PerfectNetwork(), DROP)
    agents, nodes = AgentHost(coordinator.agent_setup("m1")), NodeHost(NodeKnowledge.of(ALLIANCE, DROP))
    results = []
    for tick in range(len(SOURCE)):
        plan = coordinator.plan(tick)
        stepped = agents.step([plan.agent_request(agent_id) for agent_id in plan.agent_types])
        delivery = coordinator.deliver(plan, [AgentStep(report, message) for message, report in stepped])
        outcomes = nodes.step([(task.request, arrivals_of(task.arrived)) for task in delivery.tasks])
        here = [node_of(task.request.region, 2) != node for task in delivery.tasks]
        results.append(
            coordinator.settle(plan, delivery, [one if there else None for one, there in zip(outcomes, here, strict=True)])
        )
    return results


def test_a_vehicle_that_crosses_borders_is_handed_over_and_found_in_every_tick_exactly_once() -> None:
    """Vehicle 1002 of the town comes into another region in ticks 14 and 20. The regions find what the one node finds."""
    from heal.alliance import load_alliance
    from heal.datasets.town.source import TownSource

    alliance, source, ticks = load_alliance(DEMO_ALLIANCE), TownSource("demo", 1, 40), (13, 14, 19, 20)
    divided, single = RunOptions(region_m=51.2, late="drop"), RunOptions(late="drop")
    results, expected = [], []
    for options, found in ((divided, results), (single, expected)):
        with LocalRuntime(alliance, source, TYPES, options=options) as runtime:
            found.extend(runtime.run(ticks))
    assert [result.handed_over for result in results] == [(), ("1002",), ("1001",), ("1002",)]
    for result in results:
        overlaps = overlaps_of(result.detections, result.detections).fill_diagonal_(0)
        assert float(overlaps.max()) <= alliance.base.config.decode.nms_iou
        vehicle = result.ground_truth.ids == 1002
        assert int(vehicle.sum()) == 1
        iou = rotated_iou(bottom_rectangles(result.ground_truth.corners[vehicle]), bottom_rectangles(result.detections.corners))
        assert int((iou > 0).sum()) == 1 and float(iou.max()) > 0.5
    (low, high), (low_alone, high_alone) = ap_of(results), ap_of(expected)
    assert low > low_alone - 0.03 and high > high_alone - 0.05


def overlaps_of(detections: Detections, others: Detections) -> torch.Tensor:
    return rotated_iou(bottom_rectangles(detections.corners), bottom_rectangles(others.corners))


def ap_of(results: Sequence[TickResult]) -> tuple[float, float]:
    """At IoU 0.5 and 0.7."""
    score = ApAccumulator()
    for result in results:
        score.add(result.detections, result.ground_truth)
    ap = score.results().ap
    return ap[0.5], ap[0.7]
