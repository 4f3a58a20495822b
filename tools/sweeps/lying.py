"""A run in which some senders lie: their honest messages are replaced before they cross the network; nothing else differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from typing_extensions import Self

from heal.agents.agent import Agent, AgentRequest
from heal.agents.local_runtime import LocalRuntime
from heal.agents.tick_plan import AgentStep, Missing, TickPlan
from heal.fusion.interface import AgentLevels
from heal.message.message import Message
from heal.seeding import keyed_generator
from heal.tools.sweeps.lies import LIES, OLD_TICKS, Lie, Moment
from heal.tools.sweeps.memo import RecentValues
from heal.types import AgentFrame

ABSENT = "absent"
"""The lie of a sender that sends nothing: what its messages are worth."""

LieMemory = RecentValues[tuple[str, int, str], bytes]
"""The messages of lies by lie, tick and agent: runs side by side with the same lie send the same bytes."""


@dataclass(frozen=True)
class Liars:
    """Which senders lie, and how.

    Attributes:
        lie: a name of `LIES`, or `ABSENT`.
        count: number of liars.
        turn: which senders lie: from this one on, in the order of their ids, counted round.
    """

    lie: str
    count: int
    turn: int = 0

    def among(self, plan: TickPlan) -> list[str]:
        """Return the ids of the liars in a tick."""
        senders = sorted(agent_id for agent_id in plan.agent_types if agent_id != plan.outline.ego_id)
        return [senders[(self.turn + i) % len(senders)] for i in range(min(self.count, len(senders)))]


@dataclass(frozen=True)
class Shared:
    """What runs with liars share.

    Attributes:
        seed: of what lies draw.
        trunk: that of the base in its plain form, for liars who know it: gradients flow through it.
        memory: of the messages of lies.
    """

    seed: int
    trunk: Callable[[Tensor], AgentLevels]
    memory: LieMemory


class LyingRuntime(LocalRuntime):
    """A run in this process in which senders lie; their lies take the way of every message."""

    def lying(self, liars: Liars, shared: Shared) -> Self:
        """Let senders lie in all ticks; return self."""
        self._liars, self._shared = liars, shared
        return self

    def _steps(self, plans: Sequence[TickPlan]) -> list[list[AgentStep[bytes] | Missing]]:
        """Return the steps of the agents of each tick, with what liars send in place of their messages."""
        return [self._with_lies(plan, steps) for plan, steps in zip(plans, super()._steps(plans), strict=True)]

    def _with_lies(self, plan: TickPlan, steps: Sequence[AgentStep[bytes] | Missing]) -> list[AgentStep[bytes] | Missing]:
        liars = self._liars.among(plan)
        return [
            self._lying(plan, step) if isinstance(step, AgentStep) and step.report.agent_id in liars else step for step in steps
        ]

    def _lying(self, plan: TickPlan, step: AgentStep[bytes]) -> AgentStep[bytes]:
        agent_id, name = step.report.agent_id, self._liars.lie
        payload = b""
        if name != ABSENT:
            payload = self._shared.memory.get((name, plan.tick, agent_id), lambda: self._message(plan, agent_id, LIES[name]))
        return replace(step, payload=payload, report=replace(step.report, size_bytes=len(payload)))

    def _message(self, plan: TickPlan, agent_id: str, lie: Lie) -> bytes:
        """Return the bytes that a liar sends: packed as an honest agent packs its map, then changed if the lie is one of scales."""
        moment = self._moment(plan, agent_id)
        setup, codec = self._host(plan.agent_types[agent_id]).setup, plan.codecs[agent_id]
        with torch.no_grad():
            frame, features = lie.told(moment, setup.options.split)
            request = AgentRequest(plan.tick, agent_id, codec, own=True)  # changed before it is sent, so nobody signs it yet
            payload, _ = Agent(agent_id, setup).pack(request, frame, features.contiguous())
        return lie.spoiled(moment, replace(Message.from_bytes(payload), free=None)).to_bytes(codec)

    def _moment(self, plan: TickPlan, agent_id: str) -> Moment:
        frame, features = self._sensed(plan, plan.tick, agent_id)
        others = [other for other in plan.agent_types if other not in (agent_id, plan.outline.ego_id)] or [agent_id]
        return Moment(
            frame,
            features,
            lambda: self._sensed(plan, max(plan.tick - OLD_TICKS, 0), agent_id),
            lambda: self._sensed(plan, plan.tick, others[0])[1],
            self._shared.trunk,
            self._coordinator.alliance.grid,
            keyed_generator(self._shared.seed, "lie", plan.tick, agent_id),
            keyed_generator(self._shared.seed, "place of a lie", agent_id),
        )

    def _sensed(self, plan: TickPlan, tick: int, agent_id: str) -> tuple[AgentFrame, Tensor]:
        """Return what an agent measures in a tick, and its honest map (1, C, ny, nx)."""
        encoder = self._host(plan.agent_types[agent_id]).setup.encoder
        frame = self._coordinator.source.agent_frame(tick, agent_id, encoder.sensor)
        with torch.no_grad():
            features: Tensor = encoder(encoder.prepare([frame]))
        return frame, features.float().contiguous()
