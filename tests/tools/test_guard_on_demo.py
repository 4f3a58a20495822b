"""The shipped alliance under the guard: no blind, noisy or lying agent takes a confident box from the ego, and honest ones help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from heal.agents.agent import AgentHost, AgentRequest, AgentSetup
from heal.agents.fusion.knowledge import NodeKnowledge
from heal.agents.fusion.node import FusionNode
from heal.agents.options import RunOptions
from heal.agents.records import Arrival, FusionOutcome, FusionRequest
from heal.alliance import Alliance, load_alliance
from heal.datasets.town import TownSource
from heal.detection.guard import GuardConfig, confident_boxes, kept_boxes
from heal.message.codec import FLOAT32
from heal.message.message import Message
from heal.types import SceneOutline

ALLIANCE = Path(__file__).resolve().parents[2] / "configs" / "demo" / "alliance"
OPTIONS = RunOptions(guard="on")


@cache
def _alliance() -> Alliance:
    return load_alliance(ALLIANCE).for_inference()


@cache
def _scene() -> tuple[SceneOutline, tuple[Message, ...]]:
    """An instant of an unseen town and the messages of its agents, the ego's first."""
    source = TownSource("demo", seed=103, ticks=1, split="test")
    host, outline = AgentHost(AgentSetup.of(_alliance(), "m1", source, OPTIONS)), source.outline(0)
    stepped = host.step([AgentRequest(0, agent_id, FLOAT32) for agent_id in outline.ego_first])
    return outline, tuple(Message.from_bytes(message) for message, _ in stepped)


def _step(change: Callable[[Message, int], Message], options: RunOptions = OPTIONS) -> FusionOutcome:
    outline, (own, *others) = _scene()
    node = FusionNode(NodeKnowledge.of(_alliance(), options))
    request = FusionRequest(0, outline.timestamp_ns, "town", outline.ego_id, outline.world_SE3_ego)
    sent = [own, *(change(other, number) for number, other in enumerate(others))]
    return node.step(request, [Arrival(message.agent_id, message.to_bytes(), 0) for message in sent])


def _noise(message: Message, number: int) -> Message:
    part = message.maps[0]
    drawn = np.random.default_rng(number).standard_normal(part.shape)
    return replace(message, maps=((part.mean() + part.std() * drawn).astype(np.float32),))


def _moved(message: Message, number: int) -> Message:
    pose = message.world_SE3_agent.copy()
    pose[:3, 3] += 5.0 * pose[:3, 0]
    return replace(message, world_SE3_agent=pose)


def _times(factor: float) -> Callable[[Message, int], Message]:
    return lambda message, number: replace(message, maps=((message.maps[0] * factor).astype(np.float32),))


LIES = {
    "blind": _times(0.0),
    "one of noise": lambda message, number: _noise(message, number) if number == 0 else message,
    "all noise": _noise,
    "moved": _moved,
    "times 10": _times(10.0),
    "times 100": _times(100.0),
    "times -5": _times(-5.0),
    "times 1e30": _times(1e30),
    "the ego's own map": lambda message, number: replace(message, maps=_scene()[1][0].maps),
}


@pytest.mark.parametrize("lie", LIES)
def test_no_lie_takes_a_confident_box_from_the_ego(lie: str) -> None:
    outcome, nms_iou = _step(LIES[lie]), _alliance().base.config.decode.nms_iou
    assert outcome.alone is not None and outcome.guard is not None and outcome.guard.confident >= 5
    assert kept_boxes(confident_boxes(outcome.alone, GuardConfig()), outcome.detections, nms_iou).all()


def test_senders_of_maps_that_are_far_too_large_are_left_out_and_without_the_guard_nearly_all_is_lost() -> None:
    guarded, plain = _step(LIES["times 100"]), _step(LIES["times 100"], RunOptions(guard="off"))
    assert guarded.guard is not None and plain.guard is not None
    assert plain.guard.lost > 0.9 * plain.guard.confident and len(guarded.guard.blamed) >= 2
    # Whoever is left keeps three quarters of the boxes.
    assert guarded.guard.put_back <= guarded.guard.confident / 4


def test_honest_agents_are_not_blamed_and_find_more_than_the_ego() -> None:
    outcome = _step(lambda message, number: message)
    assert outcome.guard is not None and outcome.guard.blamed == () and outcome.alone is not None
    assert len(outcome.used) >= 3 and (outcome.detections.scores > 0.5).sum() > (outcome.alone.scores > 0.5).sum()
