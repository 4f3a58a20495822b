"""A fusion node of the tiny world and messages for it, for tests of the node."""

from __future__ import annotations

from dataclasses import replace

import torch

from heal.agents.agent import AgentHost, AgentRequest, AgentSetup
from heal.agents.fusion.knowledge import NodeKnowledge
from heal.agents.fusion.node import FusionNode
from heal.agents.options import RunOptions
from heal.agents.records import Arrival, FusionOutcome, FusionRequest
from heal.message.codec import FLOAT32
from heal.message.message import Message
from tests.agents.tiny_run import TinyAlliance, TinySource

ALLIANCE = TinyAlliance()
SOURCE = TinySource()
OPTIONS = RunOptions(max_age_ms=200)


def new_node(options: RunOptions = OPTIONS) -> FusionNode:
    return FusionNode(NodeKnowledge.of(ALLIANCE, options))


def message_of(agent_id: str, tick: int = 0, options: RunOptions = OPTIONS) -> Message:
    setup = AgentSetup.of(ALLIANCE, "m1", SOURCE, options)
    return Message.from_bytes(AgentHost(setup).step([AgentRequest(tick, agent_id, FLOAT32)])[0][0])


MESSAGES = {agent_id: message_of(agent_id) for agent_id in ("ego", "b", "c")}


def fuse(*messages: Message | tuple[str, bytes], ego_id: str = "ego") -> FusionOutcome:
    arrivals = [Arrival(m.agent_id, m.to_bytes(), 0) if isinstance(m, Message) else Arrival(m[0], m[1], 0) for m in messages]
    return new_node().step(replace(request_at(0), ego_id=ego_id), arrivals)


def request_at(tick: int) -> FusionRequest:
    outline = SOURCE.outline(tick)
    return FusionRequest(tick, outline.timestamp_ns, "tiny", "ego", outline.world_SE3_ego)


def same(a: FusionOutcome, b: FusionOutcome) -> bool:
    return torch.equal(a.detections.corners, b.detections.corners) and torch.equal(a.detections.scores, b.detections.scores)


def at(message: Message, tick: int) -> Arrival:
    """Return a message as sent in a tick."""
    return Arrival(message.agent_id, replace(message, timestamp_ns=tick * 100_000_000).to_bytes(), tick)
