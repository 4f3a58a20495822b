"""Runs with a base that has centre heads: both runtimes, the guard, regions and late fusion."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from heal.agents.deployment import Deployment
from heal.agents.fusion.knowledge import NodeKnowledge
from heal.agents.fusion.node import FusionNode
from heal.agents.local_runtime import LocalRuntime
from heal.agents.network.network import PerfectNetwork
from heal.agents.options import RunOptions
from heal.agents.records import Arrival, TickResult
from heal.base_model import BaseConfig, BaseModel
from heal.detection.guard import GuardConfig, confident_boxes, kept_boxes
from heal.fusion.late import AgentBoxes, join_boxes
from heal.heads.center_heads import CenterLayers
from heal.heads.center_targets import CentersConfig
from heal.types import Scene
from tests.agents.fusion.tiny_node import MESSAGES, request_at
from tests.agents.tiny_run import GRID, TinyAlliance, TinySource, assert_same_results, by_id

SOURCE = TinySource(ticks_each=2)
TYPES = by_id({"ego": "m1", "b": "m2", "c": "m1", "d": "m2"})


def center_base(settings: BaseConfig) -> BaseModel:
    """Return a base with centre heads that has something to say untrained: scores differ from cell to cell, sizes are a car's."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        base = BaseModel(replace(settings, heads=CentersConfig(channels=8))).eval()
    layers = base.get_submodule("center_head")
    assert isinstance(layers, CenterLayers)
    layers.heatmap[-1].bias.data.zero_()
    layers.heatmap[-1].weight.data.mul_(20.0)
    layers.box[-1].bias.data[2:] = torch.tensor([-0.5, 0.4, 0.6, 1.4])
    return base


class CenterAlliance(TinyAlliance):
    """The tiny agent types with a base that has centre heads."""

    def __init__(self) -> None:
        super().__init__()
        self.base = center_base(self.base.config)


def run_local(options: RunOptions) -> list[TickResult]:
    with LocalRuntime(CenterAlliance(), SOURCE, TYPES, options=options) as runtime:
        return list(runtime.run(range(len(SOURCE))))


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_both_runtimes_find_the_same() -> None:
    from heal.agents.on_ray.runtime import RayRuntime

    options = RunOptions(split="pyramid", guard="on")
    with RayRuntime(CenterAlliance(), SOURCE, TYPES, PerfectNetwork(), options, Deployment()) as runtime:
        results = list(runtime.run(range(len(SOURCE))))
    local = run_local(options)
    assert_same_results(local, results)
    assert all(len(result.detections) > 1 for result in local)


def test_a_run_in_regions_finds_boxes_too() -> None:
    found = [len(result.detections) for result in run_local(RunOptions(region_m=12.8))]
    assert min(found) > 1


def test_the_guard_keeps_the_confident_boxes_of_centre_heads() -> None:
    alliance, options = CenterAlliance(), RunOptions(max_age_ms=200, guard="on")
    node = FusionNode(NodeKnowledge.of(alliance, options))
    outcome = node.step(request_at(0), [Arrival(name, message.to_bytes(), 0) for name, message in MESSAGES.items()])
    assert outcome.alone is not None and outcome.guard is not None
    confident = confident_boxes(outcome.alone, GuardConfig())
    assert outcome.guard.confident == len(confident) > 1
    assert kept_boxes(confident, outcome.detections, alliance.base.config.decode.nms_iou).all()


def test_late_fusion_joins_the_candidates_of_centre_heads() -> None:
    alliance, source, tick = CenterAlliance(), TinySource(), 0
    with LocalRuntime(alliance, source, TYPES, options=RunOptions(include_ego=True, split="boxes")) as runtime:
        (result,) = runtime.run([tick])
    outline, parts = source.outline(tick), []
    for agent_id in outline.ego_first:
        frame, kind = source.agent_frame(tick, agent_id), TYPES(outline)[agent_id]
        with torch.no_grad():
            maps = alliance.agent(kind)(alliance.agent(kind).prepare(list(Scene.of([frame], "scene").frames)))
            head = alliance.base(maps, torch.eye(4, dtype=torch.float64)[None], [1]).head
        parts.append(AgentBoxes(*alliance.base.detection.candidates(head), frame.world_SE3_agent_measured))
    wanted = join_boxes(parts, parts[0].world_SE3_agent, alliance.base.config.decode, GRID.range_m)
    assert len(wanted) > len(join_boxes(parts[:1], parts[0].world_SE3_agent, alliance.base.config.decode, GRID.range_m)) > 0
    torch.testing.assert_close(result.detections.corners, wanted.corners, rtol=0, atol=1e-4)
    torch.testing.assert_close(result.detections.scores, wanted.scores, rtol=0, atol=1e-6)
