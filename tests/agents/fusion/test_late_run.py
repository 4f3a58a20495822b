"""A run with late fusion: the agents of every other run, each with the boxes that its own networks find alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
import torch

from heal.agent_types import same_type
from heal.agents.local_runtime import LocalRuntime
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.base_model import BaseModel
from heal.collab_model import CollabModel
from heal.detection.detections import Detections
from heal.errors import UserError
from heal.fusion.late import AgentBoxes, join_boxes
from heal.fusion.pyramid import PyramidConfig
from heal.se3 import pose_to_SE3
from heal.types import AgentFrame, Scene, SceneOutline, SensorChoice
from tests.agents.tiny_run import GRID, TinyAlliance, TinySource, by_id

TYPES = by_id({"ego": "m1", "b": "m2", "c": "m1", "d": "m1"})


class TinyDetectors(TinyAlliance):
    """The tiny agent types, each with a base of its own that is a single-agent detector."""

    def __init__(self) -> None:
        super().__init__()
        self.bases = {name: _detector(seed) for seed, name in enumerate(self.agent_names)}
        self.base = self.bases["m1"]

    def base_of(self, name: str) -> BaseModel:
        return self.bases[name]


def _detector(seed: int) -> BaseModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        settings = TinyAlliance().base.config
        pyramid = PyramidConfig(
            blocks=(1, 1),
            strides=(1, 2),
            channels=(8, 16),
            groups=0,
            upsample_strides=(1, 2),
            upsample_channels=(8, 8),
            single_agent=True,
        )
        base = BaseModel(replace(settings, pyramid=pyramid)).eval()
        base.cls_head.bias.data.zero_()
        base.cls_head.weight.data.normal_(std=5.0)
        return base


@dataclass(frozen=True)
class Misplaced(TinySource):
    """The tiny source in which an agent measures a pose that is wrong by a metre."""

    agent_id: str = "b"

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        frame = super().agent_frame(index, agent_id, choice)
        wrong = frame.world_SE3_agent_measured @ pose_to_SE3([1.0, 0, 0, 0, 0, 0])
        return replace(frame, world_SE3_agent_measured=wrong) if agent_id == self.agent_id else frame


def run(options: RunOptions, source: TinySource | None = None, ticks: range = range(2)) -> list[TickResult]:
    boxes = replace(options, split="boxes")
    with LocalRuntime(TinyDetectors(), source or TinySource(), TYPES, options=boxes) as runtime:
        return list(runtime.run(ticks))


def expected(alliance: TinyDetectors, frames: Mapping[str, AgentFrame], outline: SceneOutline) -> Detections:
    """Return what the whole networks find for each agent alone, joined."""
    parts = []
    for agent_id, frame in frames.items():
        kind = TYPES(outline)[agent_id]
        model = CollabModel(alliance.base_of(kind), {kind: alliance.agent(kind)})
        with torch.no_grad():
            head = model(model.prepare([Scene.of([frame], "scene")], [{agent_id: kind}])).head
        parts.append(AgentBoxes(*alliance.base.detection.candidates(head), frame.world_SE3_agent_measured))
    return join_boxes(parts, next(iter(frames.values())).world_SE3_agent_measured, alliance.base.config.decode, GRID.range_m)


def test_the_boxes_of_every_agents_own_networks_are_joined_at_measured_poses() -> None:
    options, source, alliance = RunOptions(include_ego=True), Misplaced(), TinyDetectors()
    for tick, result in enumerate(run(options, source)):
        outline = source.outline(tick)
        frames = {agent_id: source.agent_frame(tick, agent_id) for agent_id in outline.ego_first}
        wanted = expected(alliance, frames, outline)
        assert len(wanted) > 3, "the networks find something"
        torch.testing.assert_close(result.detections.corners, wanted.corners, rtol=0, atol=1e-4)
        torch.testing.assert_close(result.detections.scores, wanted.scores, rtol=0, atol=1e-6)
        alone = expected(alliance, {outline.ego_id: frames[outline.ego_id]}, outline)
        assert result.alone is not None
        torch.testing.assert_close(result.alone.corners, alone.corners, rtol=0, atol=1e-4)
        assert [(record.agent_id, record.agent_type) for record in result.messages] == [("ego", "m1"), ("b", "m2"), ("c", "m1")]


def test_the_ego_alone_is_the_run_without_fusion() -> None:
    options, alliance = RunOptions(agents=1, guard="off"), TinyDetectors()
    late = run(options)
    with LocalRuntime(alliance, TinySource(), TYPES, options=options) as runtime:
        plain = list(runtime.run(range(2)))
    for one, other in zip(late, plain, strict=True):
        assert torch.equal(one.detections.corners, other.detections.corners)
        assert torch.equal(one.ground_truth.ids, other.ground_truth.ids) and len(one.ground_truth) > 1
        # The labels are those of all agents in range, whoever takes part.
        labelled = {1, *(sum(name.encode()) for name in ("ego", "b", "c"))}
        assert set(one.ground_truth.ids.tolist()) <= labelled and len(one.ground_truth) == len(run(RunOptions())[0].ground_truth)


def test_agents_out_of_range_and_a_blind_ego_add_no_boxes() -> None:
    near = run(RunOptions(comm_range_m=4.0))[0]
    assert [record.status for record in near.messages] == ["used", "used", "out of range"]
    two = run(RunOptions(agents=2))[0]
    assert torch.equal(near.detections.corners, two.detections.corners)
    blind = run(RunOptions(agents=2, blind_ego=True))[0]
    assert [record.status for record in blind.messages] == ["rejected", "used"]
    assert two.alone is not None and len(blind.detections)
    assert not torch.isin(blind.detections.scores, two.alone.scores).any()
    assert len(run(RunOptions(agents=1, blind_ego=True))[0].detections) == 0


def test_views_and_counts_are_there_when_asked_for() -> None:
    result = run(RunOptions(keep_views=True, count_points=True))[0]
    assert [view.agent_id for view in result.views] == ["ego", "b", "c"] and result.visibility is not None
    assert result.views[0].heat.shape == (GRID.ny, GRID.nx) and 0 < result.views[0].heat.max() < 1
    assert run(RunOptions())[0].views == ()


def test_a_detector_is_not_run_with_several_agents() -> None:
    with pytest.raises(UserError, match="single-agent detector, which does not fuse"):
        LocalRuntime(TinyDetectors(), TinySource(), same_type("m1"))
