"""Pose correction in the fusion node, from the agents' foreground scores or their boxes, if the ego's own map is there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from heal.agents.agent import AgentHost, AgentRequest, AgentSetup
from heal.agents.fusion import tick_fusion
from heal.agents.fusion.knowledge import NodeKnowledge
from heal.agents.fusion.map_memory import KnownMap
from heal.agents.fusion.node import FusionNode
from heal.agents.fusion.tick_fusion import MapFusion
from heal.agents.options import RunOptions
from heal.agents.records import Arrival, FusionOutcome, FusionRequest
from heal.agents.region import Region
from heal.errors import UserError
from heal.message.codec import FLOAT32
from heal.message.message import Message
from heal.pose_correction.boxes import SeenBoxes
from heal.se3 import inverse_SE3, pose_to_SE3, relative_SE3, transform_points
from heal.tools.shared.run_settings import read_settings
from heal.types import Float32, Float64
from tests.agents.tiny_run import GRID, TICK_NS, TinyAlliance, TinySource

ALLIANCE, SOURCE = TinyAlliance(), TinySource()
OPTIONS = RunOptions(split="pyramid")
# Cars around the agents of the tiny scene, (N, 2) in the world.
CARS_M = np.array(
    [[97.0, 46.0], [98.0, 54.0], [103.0, 49.0], [104.5, 43.5], [105.0, 55.0], [109.0, 48.5], [95.0, 50.0], [101.0, 58.0]]
)


def message_of(agent_id: str) -> Message:
    """Make the message of an agent that sees the cars alone."""
    setup = AgentSetup.of(ALLIANCE, "m1", SOURCE, OPTIONS)
    message = Message.from_bytes(AgentHost(setup).step([AgentRequest(0, agent_id, FLOAT32)])[0][0])
    scores = tuple(foreground(message.world_SE3_agent, *part.shape) for part in message.scores)
    return replace(message, scores=scores)


def foreground(world_SE3_agent: Float64, ny: int, nx: int) -> Float32:
    places_m = transform_points(inverse_SE3(world_SE3_agent), np.pad(CARS_M, ((0, 0), (0, 1))))
    x, y = (
        ((np.arange(cells) + 0.5) / cells - 0.5) * length_m for cells, length_m in ((nx, GRID.length_x_m), (ny, GRID.length_y_m))
    )
    squares = (x[None, None] - places_m[:, 0, None, None]) ** 2 + (y[None, :, None] - places_m[:, 1, None, None]) ** 2
    scores: Float32 = (0.97 * np.exp(-squares / 2)).max(axis=0).astype(np.float32)
    return scores


EGO, B, C = (message_of(agent_id) for agent_id in ("ego", "b", "c"))
LOST_EGO = pose_to_SE3([1.1, -0.9, 0, 0, 0, 0]) @ EGO.world_SE3_agent
LOST_B = replace(B, world_SE3_agent=pose_to_SE3([1.1, -0.9, 0, 0, 0, 0]) @ B.world_SE3_agent)


def fuse(*messages: Message, options: RunOptions = OPTIONS, tick: int = 0, node: FusionNode | None = None) -> FusionOutcome:
    request = FusionRequest(tick, tick * TICK_NS, "tiny", "ego", SOURCE.outline(0).world_SE3_ego)
    node = node or FusionNode(NodeKnowledge.of(ALLIANCE, options))
    sent = [replace(message, timestamp_ns=tick * TICK_NS) for message in messages]
    return node.step(request, [Arrival(message.agent_id, message.to_bytes(), tick) for message in sent])


REGION = Region(6, 3, 16.0)


def fuse_region(*messages: Message, options: RunOptions = OPTIONS) -> FusionOutcome:
    """Fuse messages of tick 0 in a region with the cars in its middle, which has no ego."""
    request = FusionRequest(0, 0, "tiny", "", pose_to_SE3([*REGION.centre_m, 1.9, 0, 10, 0]), REGION)
    node = FusionNode(NodeKnowledge.of(ALLIANCE, options))
    return node.step(request, [Arrival(message.agent_id, message.to_bytes(), 0) for message in messages])


@pytest.fixture
def poses(monkeypatch: pytest.MonkeyPatch) -> list[Float64]:
    """Record the pose of the last map at each fusion."""
    seen: list[Float64] = []
    original = ALLIANCE.base.fuse_scored

    def spy(maps: Any, scores: Any, agent_SE3_ego: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append(agent_SE3_ego[-1].numpy())
        return original(maps, scores, agent_SE3_ego, *rest)

    monkeypatch.setattr(ALLIANCE.base, "fuse_scored", spy)
    return seen


def off_m(pose: Float64) -> float:
    """Return the largest distance in m by which a pose of b misplaces the cars around the ego."""
    points = transform_points(inverse_SE3(EGO.world_SE3_agent), np.pad(CARS_M, ((0, 0), (0, 1))))
    truly = relative_SE3(B.world_SE3_agent, EGO.world_SE3_agent)
    return float(np.linalg.norm((transform_points(pose, points) - transform_points(truly, points))[:, :2], axis=1).max())


def test_a_wrong_pose_is_corrected_unless_correction_is_off(poses: list[Float64]) -> None:
    fuse(EGO, LOST_B)
    fuse(EGO, LOST_B, options=replace(OPTIONS, correct_poses="off"))
    assert off_m(poses[0]) < 0.15
    assert off_m(poses[1]) > 1.4


BY_BOXES = replace(OPTIONS, correct_poses="boxes")


@pytest.fixture
def true_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every agent find the cars alone, from where it truly is, whatever its map and its pose say."""
    true_poses = {message.agent_id: message.world_SE3_agent for message in (EGO, B, C)}

    def boxes_of(_: MapFusion, known: KnownMap) -> SeenBoxes:
        places_m = transform_points(inverse_SE3(true_poses[known.agent_id]), np.pad(CARS_M, ((0, 0), (0, 1))))[:, :2]
        yaws = np.full((len(places_m), 1), -np.arctan2(*true_poses[known.agent_id][[1, 0], 0]))
        return SeenBoxes(np.hstack([places_m, yaws]), np.full(len(places_m), 0.9))

    monkeypatch.setattr(MapFusion, "_boxes_of", boxes_of)


@pytest.mark.usefixtures("true_boxes")
def test_boxes_correct_a_wrong_pose_and_leave_right_ones_alone(poses: list[Float64]) -> None:
    fuse(EGO, LOST_B, options=BY_BOXES)
    assert off_m(poses[0]) < 0.15
    aligned, plain = fuse(EGO, B, C, options=BY_BOXES), fuse(EGO, B, C, options=replace(OPTIONS, correct_poses="off"))
    assert torch.equal(aligned.detections.corners, plain.detections.corners)


@pytest.mark.usefixtures("true_boxes")
def test_boxes_correct_poses_of_a_base_that_scores_no_foreground(poses: list[Float64], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ALLIANCE.base.fusion, "scores_foreground", False)
    for options in (OPTIONS, BY_BOXES):
        fuse(EGO, LOST_B, options=options)
    together = poses[::2]  # after each fusion comes that of the ego alone
    assert off_m(together[0]) > 1.4 and off_m(together[1]) < 0.15


def test_the_boxes_are_those_that_each_map_gives_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[SeenBoxes] = []
    monkeypatch.setattr(tick_fusion, "motions_by_boxes", lambda boxes, *_: seen.extend(boxes))
    together = fuse(EGO, B, C, options=BY_BOXES)
    assert len(seen) == 3 and together.alone is not None and len(together.alone) > 3
    alone = SeenBoxes.of(together.alone)
    np.testing.assert_allclose(seen[0].places, alone.places, atol=1e-5)
    np.testing.assert_allclose(seen[0].scores, alone.scores, atol=1e-6)
    assert not np.array_equal(seen[1].scores, seen[2].scores)


def test_choices_of_the_correction_are_read_as_words_and_as_before() -> None:
    found = [read_settings(None, [f"run.correct_poses={text}"]).run.correct_poses for text in ("true", "false", "off", "boxes")]
    assert found == ["peaks", "off", "off", "boxes"]
    with pytest.raises(UserError, match="off, peaks, boxes"):
        RunOptions(correct_poses="by hand")  # type: ignore[arg-type]


def test_correction_of_right_poses_changes_no_bit() -> None:
    aligned, plain = fuse(EGO, B, C), fuse(EGO, B, C, options=replace(OPTIONS, correct_poses="off"))
    assert len(aligned.detections)
    assert torch.equal(aligned.detections.corners, plain.detections.corners)
    assert torch.equal(aligned.detections.scores, plain.detections.scores)


def test_the_order_of_arrival_does_not_matter() -> None:
    one, other = fuse(EGO, LOST_B, C), fuse(C, LOST_B, EGO)
    assert torch.equal(one.detections.corners, other.detections.corners)
    assert not torch.equal(
        one.detections.corners, fuse(EGO, LOST_B, C, options=replace(OPTIONS, correct_poses="off")).detections.corners
    )


def test_without_the_egos_map_of_this_tick_poses_are_not_corrected(poses: list[Float64]) -> None:
    """The ego has moved since its held map was taken, so that the map is no reference."""
    node = FusionNode(NodeKnowledge.of(ALLIANCE, OPTIONS))
    fuse(EGO, node=node)
    fuse(LOST_B, node=node, tick=1)
    assert off_m(poses[-1]) > 1.4


def test_in_a_region_poses_are_corrected_without_a_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[Float64]] = []
    original = ALLIANCE.base.fuse_scored

    def spy(maps: Any, scores: Any, agent_SE3_region: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append(list(agent_SE3_region.numpy()))
        return original(maps, scores, agent_SE3_region, *rest)

    monkeypatch.setattr(ALLIANCE.base, "fuse_scored", spy)
    for options in (OPTIONS, replace(OPTIONS, correct_poses="off")):
        assert fuse_region(EGO, LOST_B, C, options=options).used == ("b", "c", "ego")
    between = [off_m(b @ inverse_SE3(ego)) for b, _, ego in seen]
    assert between[0] < 0.25 and between[1] > 1.4
    # The agents share the correction, because it is not known which of them is wrong: b takes the larger part.
    shifts_m = [np.linalg.norm((inverse_SE3(new) @ old)[:2, 3]) for new, old in zip(*seen, strict=True)]
    assert shifts_m[0] > 0.7 and max(shifts_m[1:]) < 0.7


@pytest.mark.usefixtures("true_boxes")
def test_in_a_region_boxes_move_all_agents(poses: list[Float64]) -> None:
    for options in (BY_BOXES, replace(OPTIONS, correct_poses="off")):
        assert fuse_region(B, replace(EGO, world_SE3_agent=LOST_EGO), options=options).used == ("b", "ego")
    moved_m = np.linalg.norm((inverse_SE3(poses[0]) @ poses[-1])[:2, 3])
    assert 0.2 < moved_m < 1.2


def test_in_a_region_correction_of_right_poses_changes_no_bit() -> None:
    corrected, plain = fuse_region(EGO, B, C), fuse_region(EGO, B, C, options=replace(OPTIONS, correct_poses="off"))
    assert len(corrected.detections)
    assert torch.equal(corrected.detections.corners, plain.detections.corners)
    assert torch.equal(corrected.detections.scores, plain.detections.scores)
