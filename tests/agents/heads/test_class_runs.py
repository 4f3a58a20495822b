"""Runs with a base of three classes: both runtimes, regions, and late fusion, whose boxes cross the links with their class."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from heal.agents.agent import AgentHost, AgentRequest, AgentSetup
from heal.agents.deployment import Deployment
from heal.agents.fusion.knowledge import NodeKnowledge
from heal.agents.fusion.node import FusionNode
from heal.agents.local_runtime import LocalRuntime
from heal.agents.network.network import PerfectNetwork
from heal.agents.options import RunOptions
from heal.agents.records import Arrival, FusionOutcome, TickResult
from heal.fusion.late import AgentBoxes, join_boxes
from heal.message.codec import FLOAT32
from heal.message.message import Message
from heal.tools.shared.run_log import tick_line
from heal.tools.shared.scoring import RunScore, score_table
from heal.types import Scene
from tests.agents.fusion.tiny_node import request_at
from tests.agents.heads.class_run import NAMES, ClassAlliance, ClassSource
from tests.agents.tiny_run import GRID, TinyAlliance, assert_same_results, by_id

TYPES = by_id({"ego": "m1", "b": "m2", "c": "m1", "d": "m2"})
LATE = RunOptions(split="boxes")


ALLIANCE, SOURCE = ClassAlliance(), ClassSource(ticks_each=1)


def run_local(options: RunOptions) -> list[TickResult]:
    with LocalRuntime(ALLIANCE, SOURCE, TYPES, options=options) as runtime:
        return list(runtime.run(range(len(SOURCE))))


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("split", ["pyramid", "boxes"])
def test_both_runtimes_find_the_same(split: str) -> None:
    from heal.agents.on_ray.runtime import RayRuntime

    options = RunOptions(split=split)  # type: ignore[arg-type]
    with RayRuntime(ALLIANCE, SOURCE, TYPES, PerfectNetwork(), options, Deployment()) as runtime:
        results = list(runtime.run(range(len(SOURCE))))
    assert_same_results(run_local(options), results)


@pytest.mark.parametrize(
    "options", [RunOptions(), RunOptions(region_m=12.8), RunOptions(guard="on")], ids=["whole", "regions", "guard"]
)
def test_results_have_classes_and_are_scored_by_them(options: RunOptions) -> None:
    score = RunScore(GRID.range_m)
    for result in run_local(options):
        assert set(result.detections.classes.tolist()) == {0, 1, 2} and result.class_names == NAMES
        assert set(result.ground_truth.classes.tolist()) == {0, 2}
        assert tick_line(result)["classes"] == result.detections.classes.tolist()
        score.add(result)
    metrics = score.metrics()
    assert list(metrics["classes"]) == list(NAMES) and metrics["classes"]["pedestrian"]["ap"]["0.5"] is None
    lines = [str(cell) for column in score_table({"run": score}, "title").columns[:1] for cell in column.cells]
    assert lines == ["run", *(f"  {name}" for name in NAMES), "ego alone"][: len(lines)]
    known = [part["ap"]["0.5"] for part in metrics["classes"].values() if part["ground_truths"]]
    assert metrics["ap"]["0.5"] == metrics["measures"]["bev"]["global"]["0.5"] == pytest.approx(sum(known) / 2)
    assert sum(part["ground_truths"] for part in metrics["classes"].values()) == metrics["ground_truths"]


def test_the_boxes_of_late_fusion_are_joined_class_by_class() -> None:
    [result] = LocalRuntime(ALLIANCE, SOURCE, TYPES, options=replace(LATE, include_ego=True)).run([0])
    outline, parts = SOURCE.outline(0), []
    for agent_id in outline.ego_first:
        frame, agent = SOURCE.agent_frame(0, agent_id), ALLIANCE.agent(TYPES(outline)[agent_id])
        with torch.no_grad():
            maps = agent(agent.prepare(list(Scene.of([frame], "scene").frames)))
            head = ALLIANCE.base(maps, torch.eye(4, dtype=torch.float64)[None], [1]).head
        boxes, scores, classes = ALLIANCE.base.detection.candidates(head)
        best = scores.argsort(descending=True, stable=True)[: ALLIANCE.base.config.decode.max_candidates]
        parts.append(AgentBoxes(boxes[best], scores[best], classes[best], frame.world_SE3_agent_measured))
    wanted = join_boxes(parts, parts[0].world_SE3_agent, ALLIANCE.base.config.decode, GRID.range_m)
    assert set(wanted.classes.tolist()) == {0, 1, 2}
    torch.testing.assert_close(result.detections.scores, wanted.scores, rtol=0, atol=1e-6)
    assert torch.equal(result.detections.classes, wanted.classes)


def message_of(agent_id: str, alliance: TinyAlliance = ALLIANCE) -> Message:
    setup = AgentSetup.of(alliance, "m1", SOURCE, LATE)
    return Message.from_bytes(AgentHost(setup).step([AgentRequest(0, agent_id, FLOAT32)])[0][0])


def fuse(*messages: Message, alliance: TinyAlliance = ALLIANCE) -> FusionOutcome:
    node = FusionNode(NodeKnowledge.of(alliance, LATE))
    return node.step(request_at(0), [Arrival(message.agent_id, message.to_bytes(), 0) for message in messages])


def test_boxes_without_a_class_or_of_a_class_that_the_base_has_not_are_refused() -> None:
    ego, b = message_of("ego"), message_of("b")
    assert b.maps[0].shape[0] == 9 and set(b.maps[0][8, 0].tolist()) == {0, 1, 2}
    alone = fuse(ego).detections
    unknown = b.maps[0].copy()
    unknown[8, 0, -1] = 3
    for maps, detail in ((b.maps[0][:8], "boxes of 8 numbers, expected 9"), (unknown, "class 3, allowed are 0 to 2")):
        outcome = fuse(ego, replace(b, maps=(maps,)))
        [rejection] = outcome.rejected
        assert rejection.reason == "other classes" and detail in rejection.detail
        assert torch.equal(outcome.detections.scores, alone.scores)
    assert len(fuse(ego, b).used) == 2


def test_a_base_of_one_class_takes_boxes_of_eight_numbers_alone() -> None:
    plain = TinyAlliance()
    ego = message_of("ego", plain)
    assert ego.maps[0].shape[0] == 8 and not fuse(ego, alliance=plain).detections.classes.any()
    other = replace(message_of("b"), base_hash=ego.base_hash)
    [rejection] = fuse(ego, other, alliance=plain).rejected
    assert (rejection.reason, "expected 8" in rejection.detail) == ("other classes", True)
