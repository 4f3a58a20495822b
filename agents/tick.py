"""The course of a tick, equal for all runtimes: which agents take part, what the links do, what becomes of every message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from heal.agent_types import TypesOf
from heal.agents.agent import AgentRequest, AgentSetup
from heal.agents.fusion.division import FusionTask, divide
from heal.agents.interfaces import AllianceLike
from heal.agents.mailbox import Mailbox
from heal.agents.network.network import Network
from heal.agents.network.rate_control import RateControl
from heal.agents.network.transit import Transit, Transmission
from heal.agents.options import RunOptions
from heal.agents.pacer import Pacer
from heal.agents.records import (
    LOST_WITH_MACHINE,
    NODE_AWAY,
    OUT_OF_RANGE,
    AgentReport,
    AgentView,
    Arrival,
    Fault,
    FusionOutcome,
    FusionRequest,
    MessageRecord,
    MessageStatus,
    Rejection,
    TickResult,
)
from heal.detection.boxes import boxes_around_origin
from heal.detection.detections import Detections, GroundTruth
from heal.detection.ground_truth import objects_in_frame, without_vehicle_at
from heal.message.codec import FLOAT32, Codec
from heal.message.message import Buffer
from heal.types import ObjectLabels, SceneOutline, SceneSource

Payload = TypeVar("Payload")
_STATUS_OF_REJECTION: dict[str, MessageStatus] = {OUT_OF_RANGE: "out of range", LOST_WITH_MACHINE: "lost", NODE_AWAY: "lost"}


@dataclass(frozen=True)
class TickPlan:
    """Which agents take part in a tick, and how they write their messages.

    Attributes:
        tick: index of the scene in its source.
        number: number of ticks of the run that came before.
        outline: of the scene.
        agent_types: the agents that take part, the ego first, and their types.
        codecs: the codec of each agent's message. Without regions the ego's own message is read on board and stays in float32.
        lag_ms: how late the tick begins by the wall clock.
    """

    tick: int
    number: int
    outline: SceneOutline
    agent_types: Mapping[str, str]
    codecs: Mapping[str, Codec]
    lag_ms: float

    @property
    def request(self) -> FusionRequest:
        """The request to the fusion of the whole tick."""
        outline = self.outline
        sequence = outline.scene_id.rpartition("/")[0]
        return FusionRequest(self.tick, outline.timestamp_ns, sequence, outline.ego_id, outline.world_SE3_ego)

    def agent_request(self, agent_id: str) -> AgentRequest:
        """Return the request to one agent."""
        return AgentRequest(agent_id, self.codecs[agent_id])


@dataclass(frozen=True)
class AgentStep(Generic[Payload]):
    """An agent's finished step in a tick.

    Attributes:
        report: the agent's report.
        payload: the message in the runtime's own form: bytes, or a reference to an object of Ray.
        elapsed_ms: how long after the beginning of the tick the step was finished; 0 in simulated time.
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
    """

    reason: str
    late: bool = False


@dataclass(frozen=True)
class Delivery(Generic[Payload]):
    """The messages of a tick, after the network has carried them.

    Attributes:
        records: what became of each message on its link.
        reports: the reports of the agents.
        arrived: the messages that the fusion nodes are to read now.
        tasks: the request to each fusion node, with its messages.
        handed_over: agents that have driven into another region.
    """

    records: tuple[MessageRecord, ...]
    reports: tuple[AgentReport, ...]
    arrived: tuple[tuple[MessageRecord, Payload], ...]
    tasks: tuple[FusionTask[Payload], ...]
    handed_over: tuple[str, ...]


class TickCoordinator(Generic[Payload]):
    """Plans ticks, sends their messages, and joins what is known of them in the end."""

    def __init__(
        self, alliance: AllianceLike, source: SceneSource, types_of: TypesOf, network: Network, options: RunOptions
    ) -> None:
        """Coordinate one run; the arguments are those of `heal.agents.runtime.open_runtime`."""
        self.alliance, self.source, self.types_of, self.options = alliance, source, types_of, options
        self._network = network
        self._division = divide(options, alliance.grid, alliance.base.config.decode)
        self._mailbox: Mailbox[Payload] = Mailbox(options)
        self._rate = RateControl(options.deadline_ms) if options.adapt else None
        self._pacer = Pacer() if options.realtime else None
        self._planned = 0

    def agent_setup(self, agent_type: str) -> AgentSetup:
        """Return what the agents of one type need."""
        return AgentSetup.of(self.alliance, agent_type, self.source, self.options)

    def plan(self, tick: int) -> TickPlan:
        """Plan a tick; by the wall clock, wait until the tick is due."""
        outline = self.source.outline(tick)
        assigned = self.types_of(outline)
        if outline.ego_id not in assigned:
            raise ValueError(
                f"scene {outline.scene_id}: the ego {outline.ego_id!r} has no agent type, and nothing is fused without it"
            )
        there = [agent_id for agent_id in outline.ego_first if agent_id in assigned]
        types = {agent_id: assigned[agent_id] for agent_id in there[: self.options.agents]}
        number, self._planned = self._planned, self._planned + 1
        own = {agent_id for agent_id in types if self._division.is_own(agent_id, outline.ego_id)}
        codecs = {agent_id: FLOAT32 if agent_id in own else self._codec(number, agent_id) for agent_id in types}
        return TickPlan(tick, number, outline, types, codecs, self._pacer.wait(outline.timestamp_ns) if self._pacer else 0.0)

    def _codec(self, number: int, agent_id: str) -> Codec:
        """Return the run's codec, with a budget that fits the rate of the agent's link if the run adapts."""
        codec = self.options.codec
        limits = [codec.budget_bytes, self._rate.budget_bytes(number, agent_id) if self._rate else None]
        known = [limit for limit in limits if limit is not None]
        return replace(codec, budget_bytes=min(known)) if known else codec

    def deliver(self, plan: TickPlan, steps: Sequence[AgentStep[Payload] | Missing]) -> Delivery[Payload]:
        """Send the messages of a tick over the network; `steps` are in the order of the plan's agents."""
        done = {step.report.agent_id: step for step in steps if isinstance(step, AgentStep)}
        transits = self._send(plan, list(done.values()))
        records = []
        for agent_id, step in zip(plan.agent_types, steps, strict=True):
            records.append(self._record(plan, agent_id, step, transits.get(agent_id)))
            if isinstance(step, AgentStep):
                self._mailbox.post(records[-1], step.payload)
        arrived = tuple(self._mailbox.collect(plan.request))
        reports = tuple(step.report for step in done.values())
        handed_over = self._division.locate(plan.request, reports)
        return Delivery(tuple(records), reports, arrived, self._division.share_out(plan.request, arrived), handed_over)

    def post_late(self, plan: TickPlan, step: AgentStep[Payload]) -> None:
        """Send a message that was finished after the deadline of its tick."""
        agent_id = step.report.agent_id
        self._division.locate(plan.request, [step.report])
        record = self._record(plan, agent_id, step, self._send(plan, [step]).get(agent_id))
        self._mailbox.post(replace(record, status="late") if record.status == "used" else record, step.payload)

    def _send(self, plan: TickPlan, steps: Sequence[AgentStep[Payload]]) -> dict[str, Transit]:
        """Send messages over the network; returns what became of those that cross it, by agent."""
        crossing = [step for step in steps if not self._division.is_own(step.report.agent_id, plan.outline.ego_id)]
        transmissions = [
            Transmission(step.report.agent_id, plan.outline.timestamp_ns + round(step.elapsed_ms * 1e6), step.report.size_bytes)
            for step in crossing
        ]
        transits = self._network.send(plan.number, transmissions)
        if self._rate:
            for transmission, transit in zip(transmissions, transits, strict=True):
                self._rate.observe(plan.number, transmission.agent_id, transmission.size_bytes, transit, transmission.sent_ns)
        return {transmission.agent_id: transit for transmission, transit in zip(transmissions, transits, strict=True)}

    def _record(self, plan: TickPlan, agent_id: str, step: AgentStep[Payload] | Missing, transit: Transit | None) -> MessageRecord:
        """Record an agent's message; one that arrives in time counts as used until a fusion node rejects it."""
        tick_ns, own = plan.outline.timestamp_ns, self._division.is_own(agent_id, plan.outline.ego_id)
        record = MessageRecord(plan.tick, agent_id, plan.agent_types[agent_id], own, 0, tick_ns, None, "lost", "")
        if isinstance(step, Missing):
            return replace(record, status="late" if step.late else "lost", reason=step.reason)
        sent_ns = tick_ns + round(step.elapsed_ms * 1e6)
        record = replace(record, size_bytes=step.report.size_bytes, sent_ns=sent_ns, latency=step.report.latency)
        arrival_ns = sent_ns if transit is None else transit.arrival_ns
        if arrival_ns is None:
            return replace(record, reason="" if transit is None else transit.reason)
        if arrival_ns - tick_ns > self.options.deadline_ms * 1e6:
            return replace(record, arrival_ns=arrival_ns, status="late", reason="after the deadline")
        return replace(record, arrival_ns=arrival_ns, status="used")

    def settle(
        self,
        plan: TickPlan,
        delivery: Delivery[Payload],
        outcomes: Sequence[FusionOutcome | None],
        faults: Sequence[Fault] = (),
    ) -> TickResult:
        """Make the result of a tick.

        Args:
            plan: of the tick.
            delivery: its messages.
            outcomes: of the delivery's tasks; None for a fusion node that did not answer.
            faults: processes that broke or returned.
        """
        outline = plan.outline
        senders = [(record.agent_id, record.tick) for record, _ in delivery.arrived]
        outcome = self._division.join(plan.request, delivery.tasks, outcomes, senders)
        detections, ground_truth = self._detections_and_truth(plan, delivery, outcome)
        rejected = () if outcome is None else outcome.rejected
        return TickResult(
            tick=plan.tick,
            scene_id=outline.scene_id,
            timestamp_ns=outline.timestamp_ns,
            ego_id=outline.ego_id,
            world_SE3_ego=outline.world_SE3_ego,
            detections=detections,
            ground_truth=ground_truth,
            messages=_with_rejections(delivery.records, rejected, outcome is not None),
            latency=None if outcome is None else outcome.latency,
            lag_ms=plan.lag_ms,
            views=tuple(view for report in delivery.reports if (view := _view(report)) is not None),
            held=() if outcome is None else outcome.held,
            late_rejections=tuple(rejection for rejection in rejected if rejection.tick != plan.tick),
            faults=tuple(faults),
            handed_over=delivery.handed_over,
        )

    def _detections_and_truth(
        self, plan: TickPlan, delivery: Delivery[Payload], outcome: FusionOutcome | None
    ) -> tuple[Detections, GroundTruth]:
        """Return the detections and the ground truth in the ego's frame, both without the ego's vehicle unless it is included."""
        world_SE3_ego, options = plan.outline.world_SE3_ego, self.options
        detections = Detections.empty() if outcome is None else outcome.detections
        objects = self._objects(plan, delivery.reports)
        if not options.include_ego:
            objects = without_vehicle_at(objects, world_SE3_ego)
            detections = detections.select(~boxes_around_origin(detections.boxes))
        return detections, objects_in_frame(objects, world_SE3_ego, self.alliance.grid.range_m, options.use_z)

    def _objects(self, plan: TickPlan, reports: Sequence[AgentReport]) -> ObjectLabels:
        """Return the labels of all agents of the scene; agents without a report are read from the source."""
        objects = self.source.scene_objects(plan.tick)
        if objects is not None:
            return objects
        known = {report.agent_id: report.objects for report in reports}
        ids = plan.outline.agent_ids
        return ObjectLabels.union([known[i] if i in known else self.source.agent_frame(plan.tick, i).objects for i in ids])


def arrivals_of(arrived: Sequence[tuple[MessageRecord, Buffer]]) -> list[Arrival]:
    """Turn records and bytes into the arrivals that a fusion node reads."""
    return [Arrival(record.agent_id, payload, record.tick) for record, payload in arrived]


def _view(report: AgentReport) -> AgentView | None:
    if report.points is None or report.heat is None:
        return None
    return AgentView(report.agent_id, report.world_SE3_agent, report.points, report.heat)


def _with_rejections(records: Sequence[MessageRecord], rejected: Sequence[Rejection], answered: bool) -> tuple[MessageRecord, ...]:
    """Update the records by the answers of the fusion nodes: lost without an answer, rejected, or used."""
    by_sender = {(rejection.agent_id, rejection.tick): rejection for rejection in rejected}
    judged = []
    for record in records:
        rejection = by_sender.get((record.agent_id, record.tick))
        if record.status == "used" and not answered:
            record = replace(record, status="lost", reason=NODE_AWAY)
        elif record.status == "used" and rejection is not None:
            status: MessageStatus = _STATUS_OF_REJECTION.get(rejection.reason, "rejected")
            record = replace(record, status=status, reason=rejection.reason, detail=rejection.detail)
        judged.append(record)
    return tuple(judged)
