"""The fusion node under fuzzed messages: whatever one sender sends, every message is accounted for, and the others are fused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from heal.agents.agent import AgentHost, AgentRequest, AgentSetup
from heal.agents.fusion.knowledge import NodeKnowledge
from heal.agents.fusion.node import FusionNode
from heal.agents.options import RunOptions
from heal.agents.records import Arrival, FusionOutcome
from heal.message.codec import Codec
from tests.agents.compressing import CompressingAlliance
from tests.agents.fusion.tiny_node import SOURCE, request_at, same
from tests.long.decoder import Decoder
from tests.long.sealed_messages import mutated_sender

OPTIONS = RunOptions(max_age_ms=200)
RATIO = 4
SENDERS = ("ego", "b", "c")


@dataclass(frozen=True)
class _World:
    """A node's networks, its options, and the codecs in which the fuzzed sender may send."""

    alliance: CompressingAlliance
    options: RunOptions
    codecs: tuple[str, ...]

    def node(self) -> FusionNode:
        """Return a node that knows nothing yet."""
        return FusionNode(NodeKnowledge.of(self.alliance, self.options))

    def message(self, agent_id: str, tick: int, codec: str) -> bytes:
        """Return what an agent sends in a tick."""
        host = AgentHost(AgentSetup.of(self.alliance, "m1", SOURCE, self.options))
        return bytes(host.step([AgentRequest(tick, agent_id, Codec.parse(codec))])[0][0])

    def honest(self, tick: int, agent_ids: Sequence[str] = SENDERS) -> list[Arrival]:
        """Return the messages of some agents in a tick."""
        return [Arrival(agent_id, self.message(agent_id, tick, "float32"), tick) for agent_id in agent_ids]


VARIANTS: dict[str, tuple[RunOptions, tuple[str, ...]]] = {
    "node-feature": (OPTIONS, ("float32", "int8,score:0.3,zstd")),
    "node-compressed": (OPTIONS, (f"float32,ae:{RATIO}", f"int8,ae:{RATIO},zstd")),
    "node-pyramid": (replace(OPTIONS, split="pyramid", correct_poses="boxes"), ("float32", "float16,score:0.3")),
    "node-guarded": (replace(OPTIONS, split="pyramid", guard="on"), ("float32", "float16")),
    "node-boxes": (replace(OPTIONS, split="boxes"), ("float32", "float16,zstd")),
    "node-points": (replace(OPTIONS, split="points"), ("float32", "float16,zstd")),
}


def fuzzed_node(name: str, _: Path) -> Decoder:
    """Return the decoder of what agent b sends to a node beside two honest agents."""
    options, codecs = VARIANTS[name]
    world = _World(CompressingAlliance(RATIO), options, codecs)
    ego, _b, other = world.honest(0)
    next_tick = world.honest(1)
    without, with_all = world.node().step(request_at(0), [ego, other]), world.node().step(request_at(1), next_tick)
    is_exact = options.guard != "on"  # a guard remembers, and puts boxes back

    def decode(data: bytes) -> str:
        node = world.node()
        outcome = node.step(request_at(0), [ego, Arrival("b", data, 0), other])
        how = _check(outcome)
        if how != "used" and is_exact:
            assert same(outcome, without), "a rejected message has changed the boxes"
        if how in ("used", "fusion failed"):
            after = node.step(request_at(1), next_tick)
            assert set(after.used) | {one.agent_id for one in after.rejected} == set(SENDERS)
            assert not is_exact or same(after, with_all), "a message has changed the boxes of the next tick"
        return how

    seeds = [world.message("b", 0, codec) for codec in codecs]
    return Decoder(decode, None, seeds, mutated_sender)


def _check(outcome: FusionOutcome) -> str:
    """Check that the node has accounted for all messages and that its boxes are finite; return what became of b's message."""
    reasons = {one.agent_id: one.reason for one in outcome.rejected}
    assert set(outcome.used) | set(reasons) == set(SENDERS) and not set(outcome.used) & set(reasons), outcome
    assert outcome.detections.corners.isfinite().all() and outcome.detections.scores.isfinite().all()
    if "b" in reasons:
        assert reasons["b"] == "blamed by the guard" or set(reasons) == {"b"}, reasons
    return reasons.get("b", "used")
