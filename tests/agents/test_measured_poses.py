"""What is fused depends on the poses that the agents measure, and on no true pose; with regions as without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch

from heal.agent_types import same_type
from heal.agents.local_runtime import LocalRuntime
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.datasets.noise import SensorNoise
from heal.se3 import pose_to_SE3
from heal.types import AgentFrame, Float64, ObjectLabels, SceneOutline, SceneSource, SensorChoice
from tests.agents.tiny_run import TinyAlliance, TinySource

ALLIANCE = TinyAlliance()
ALLIANCE.base.config = replace(ALLIANCE.base.config, decode=replace(ALLIANCE.base.config.decode, score_threshold=0.55))
SOURCE = TinySource(scenarios=(("ego", "b", "c"),), ticks_each=6, spacing_m=5.75)
NOISE = SensorNoise.parse("position:0.4,rotation:0.4")
OPTIONS = {None: RunOptions(), 16.0: RunOptions(region_m=16.0)}
GARBAGE = pose_to_SE3([-3000, 7000, 400, 0, 77, 0])
UNSEEN_TICK = 3


@dataclass(frozen=True)
class Changed:
    """A source with other true poses, other measured poses, or an ego that senses nothing in one tick though it knows its pose."""

    source: SceneSource
    true: Callable[[Float64], Float64] = lambda pose: pose
    measured: Callable[[Float64], Float64] = lambda pose: pose
    blind: bool = False

    def __len__(self) -> int:  # noqa: D105
        return len(self.source)

    def outline(self, index: int) -> SceneOutline:
        outline = self.source.outline(index)
        return replace(outline, world_SE3_ego=self.true(outline.world_SE3_ego))

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        if self.blind and (index, agent_id) == (UNSEEN_TICK, "ego") and (choice is None or choice.lidar):
            raise ValueError("the LiDAR is covered")
        frame = self.source.agent_frame(index, agent_id, choice)
        pose, measured = self.true(frame.world_SE3_agent), self.measured(frame.world_SE3_agent_measured)
        return replace(frame, world_SE3_agent=pose, world_SE3_agent_measured=measured)

    def scene_objects(self, index: int) -> ObjectLabels | None:
        return self.source.scene_objects(index)


def run(source: SceneSource, region_m: float | None) -> list[TickResult]:
    with LocalRuntime(ALLIANCE, source, same_type("m1"), options=OPTIONS[region_m], tolerant=True) as runtime:
        return list(runtime.run(range(len(source))))


@pytest.mark.parametrize("region_m", OPTIONS)
def test_true_poses_do_not_change_what_is_fused(region_m: float | None) -> None:
    noisy = Changed(NOISE.around(SOURCE, seed=3), blind=True)
    results, expected = run(replace(noisy, true=lambda _: GARBAGE), region_m), run(noisy, region_m)
    for result, one in zip(results, expected, strict=True):
        assert torch.equal(result.detections.corners, one.detections.corners)
        assert torch.equal(result.detections.scores, one.detections.scores)
        assert same_messages(result, one) and result.handed_over == one.handed_over
        assert len(result.detections) and not len(result.ground_truth) and len(one.ground_truth)


def same_messages(one: TickResult, other: TickResult) -> bool:
    return [(m.agent_id, m.status, m.reason) for m in one.messages] == [(m.agent_id, m.status, m.reason) for m in other.messages]


@pytest.mark.parametrize("region_m", OPTIONS)
def test_an_error_that_all_agents_share_moves_regions_with_the_agents(region_m: float | None) -> None:
    """The agents measure that they are three regions further in x and two in y: the same regions around them, the same result."""
    shift = pose_to_SE3([48, -32, 0, 0, 0, 0])
    results, expected = run(Changed(SOURCE, measured=lambda pose: shift @ pose), region_m), run(SOURCE, region_m)
    for result, one in zip(results, expected, strict=True):
        assert len(one.detections) == len(result.detections) > 0
        assert float((result.detections.corners - one.detections.corners).abs().max()) < 1e-3
        assert float((result.detections.scores - one.detections.scores).abs().max()) < 1e-4
        assert torch.equal(result.ground_truth.corners, one.ground_truth.corners)
        assert same_messages(result, one) and result.handed_over == one.handed_over


@pytest.mark.parametrize("region_m", OPTIONS)
def test_an_ego_with_an_implausible_pose_is_left_out_and_the_others_are_fused(region_m: float | None) -> None:
    flipped = pose_to_SE3([0, 0, 0, 180, 0, 0])

    def measured(pose: Float64) -> Float64:
        return pose @ flipped if pose[1, 3] == 50 else pose

    results = run(Changed(SOURCE, measured=measured), region_m)
    for result in results:
        assert [record.reason for record in result.messages] == ["implausible pose", "", ""]
        assert len(result.detections)
