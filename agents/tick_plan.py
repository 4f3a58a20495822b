"""The parts of a tick on their way from the plan to the fusion: which agents take part, their steps, their messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from heal.agents.agent import AgentRequest
from heal.agents.failures import AgentFailure
from heal.agents.faults import Fault
from heal.agents.fusion.division import FusionTask
from heal.agents.message_records import AgentLatency, MessageRecord
from heal.agents.records import AgentReport, FusionRequest, Rejection, Sender
from heal.message.codec import Codec
from heal.types import Float64, SceneOutline, recording_of

Payload = TypeVar("Payload")


@dataclass(frozen=True)
class TickPlan:
    """Which agents take part in a tick, and how they write their messages.

    Attributes:
        tick: index of the scene in its source.
        number: number of ticks of the run that came before.
        outline: of the scene.
        agent_types: the agents that take part, the ego first, and their types.
        codecs: the codec of each agent's message. Without regions the ego's own message is read on board and stays in float32.
        lag_ms: how late the tick begins by the wall clock, in milliseconds of the data.
        began_s: when the tick began, by the machine's monotonic clock.
        dropped: number of ticks before it that were dropped by the wall clock.
        trust: the trust in agent types that were not in the alliance when the run began.
        faults: agents that cannot join because their type cannot be used yet, or that can join now.
        own: the agent whose message is read on board, without a link; None if there is none, as with regions.
    """

    tick: int
    number: int
    outline: SceneOutline
    agent_types: Mapping[str, str]
    codecs: Mapping[str, Codec]
    lag_ms: float
    began_s: float
    dropped: int
    trust: Mapping[str, float] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    own: str | None = None

    def request(self, world_SE3_ego: Float64) -> FusionRequest:
        """Return the request to the fusion of the whole tick, in the frame of the ego's measured pose."""
        outline = self.outline
        sequence = recording_of(outline.scene_id)
        ego_type = self.agent_types.get(outline.ego_id, "")
        place = self.tick, outline.timestamp_ns, sequence, outline.ego_id, world_SE3_ego
        return FusionRequest(*place, trust=self.trust, ego_type=ego_type)

    def agent_request(self, agent_id: str) -> AgentRequest:
        """Return the request to one agent."""
        return AgentRequest(self.tick, agent_id, self.codecs[agent_id], agent_id == self.own)


@dataclass(frozen=True)
class AgentStep(Generic[Payload]):
    """An agent's finished step in a tick.

    Attributes:
        report: the agent's report.
        payload: the message in the runtime's own form: bytes, or a reference to an object of Ray.
        elapsed_ms: how long after the beginning of the tick the step was done, in milliseconds of the data; 0 in simulated time.
    """

    report: AgentReport
    payload: Payload
    elapsed_ms: float = 0.0


@dataclass(frozen=True)
class Missing:
    """An agent without a message at the deadline.

    Attributes:
        reason: why there is no message.
        late: whether the message will be finished later.
        failure: the error of an agent whose step failed.
    """

    reason: str
    late: bool = False
    failure: AgentFailure | None = None


@dataclass(frozen=True)
class Delivery(Generic[Payload]):
    """The messages of a tick, after the network has carried them.

    Attributes:
        request: the request to the fusion of the whole tick.
        records: what became of each message on its link.
        reports: the reports of the agents.
        arrived: the messages that the fusion nodes are to read now.
        tasks: the request to each fusion node, with its messages.
        handed_over: agents that have driven into another region.
        waited_ms: how long after the beginning of the tick the fusion nodes were asked.
        late: agents that have finished the step of an earlier tick since the last one, and the times of their stages.
        faults: agents whose steps failed, or succeeded again.
        turned_away: number of byte strings that the run's door turned away, by reason.
        unread: messages of earlier ticks that no fusion node will read.
    """

    request: FusionRequest
    records: tuple[MessageRecord, ...]
    reports: tuple[AgentReport, ...]
    arrived: tuple[tuple[MessageRecord, Payload], ...]
    tasks: tuple[FusionTask[Payload], ...]
    handed_over: tuple[str, ...]
    waited_ms: float
    late: tuple[tuple[str, AgentLatency], ...]
    faults: tuple[Fault, ...] = ()
    turned_away: Mapping[str, int] = field(default_factory=dict)
    unread: tuple[Rejection, ...] = ()

    @property
    def senders(self) -> list[Sender]:
        """The sender and the tick of each message that has arrived."""
        return [(record.agent_id, record.tick) for record, _ in self.arrived]
