"""The bookkeeping of a tick, equal for all runtimes: who takes part, what the links do, what became of every message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from heal.agent_types import TypesOf
from heal.agents.agent import AgentKit, Errand
from heal.agents.fusion.division import FusionTask, divide
from heal.agents.interfaces import AllianceLike
from heal.agents.mailbox import Mailbox
from heal.agents.network.network import Network
from heal.agents.network.rate_control import RateControl
from heal.agents.network.transit import Parcel, Transit
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
from heal.detection.detections import Detections
from heal.detection.ground_truth import objects_in_frame, without_vehicle_at
from heal.message.codec import FLOAT32, Codec
from heal.message.message import Buffer
from heal.types import ObjectLabels, SceneOutline, SceneSource

Payload = TypeVar("Payload")
_STATUS_OF_REJECTION: dict[str, MessageStatus] = {OUT_OF_RANGE: "out of range", LOST_WITH_MACHINE: "lost", NODE_AWAY: "lost"}


@dataclass(frozen=True)
class TickPlan:
    """Who does what in a tick.

    Attributes:
        tick: index of the scene in its source.
        number: how many ticks of the run came before.
        outline: of the scene.
        agent_types: the agents that take part, ego first, and their types.
        codecs: how each of them is to write its message; the ego's is read on board, as it is.
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
        """What is asked for as a whole."""
        outline = self.outline
        sequence = outline.scene_id.rpartition("/")[0]
        return FusionRequest(self.tick, outline.timestamp_ns, sequence, outline.ego_id, outline.world_SE3_ego)

    def errand(self, agent_id: str) -> Errand:
        """What an agent is asked for."""
        return Errand(agent_id, self.codecs[agent_id])


@dataclass(frozen=True)
class Stepped(Generic[Payload]):
    """What an agent has done in a tick: its report, its message in the runtime's own form, and how long after the tick it was done.

    In simulated time computing takes none.
    """

    report: AgentReport
    payload: Payload
    elapsed_ms: float = 0.0


@dataclass(frozen=True)
class Missing:
    """An agent that has no message at the deadline, and why; `late` if there will be one."""

    reason: str
    late: bool = False


@dataclass(frozen=True)
class Delivery(Generic[Payload]):
    """A tick's messages.

    Attributes:
        records: what became of each on its link.
        reports: what the agents reported.
        arrived: what fusion nodes are to read now.
        tasks: what each of them is asked for.
        handed_over: agents that have driven into another region.
    """

    records: tuple[MessageRecord, ...]
    reports: tuple[AgentReport, ...]
    arrived: tuple[tuple[MessageRecord, Payload], ...]
    tasks: tuple[FusionTask[Payload], ...]
    handed_over: tuple[str, ...]


class TickBook(Generic[Payload]):
    """Plans ticks and settles their accounts."""

    def __init__(
        self, alliance: AllianceLike, source: SceneSource, types_of: TypesOf, network: Network, options: RunOptions
    ) -> None:
        """For one run; arguments as for the runtimes."""
        self.alliance, self.source, self.types_of, self.options = alliance, source, types_of, options
        self._network = network
        self._division = divide(options, alliance.grid, alliance.base.config.decode)
        self._mailbox: Mailbox[Payload] = Mailbox(options)
        self._rate = RateControl(options.deadline_ms) if options.adapt else None
        self._pacer = Pacer() if options.realtime else None
        self._planned = 0

    def kit(self, agent_type: str) -> AgentKit:
        """The equipment of agents of one type."""
        return AgentKit.of(self.alliance, agent_type, self.source, self.options)

    def plan(self, tick: int) -> TickPlan:
        """Who takes part in a tick; in wall-clock time, waits until it is due."""
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
        """The run's codec, within what the link has been found to carry."""
        codec = self.options.codec
        limits = [codec.budget_bytes, self._rate.budget_bytes(number, agent_id) if self._rate else None]
        known = [limit for limit in limits if limit is not None]
        return replace(codec, budget_bytes=min(known)) if known else codec

    def deliver(self, plan: TickPlan, steps: Sequence[Stepped[Payload] | Missing]) -> Delivery[Payload]:
        """Send a tick's messages over the network; `steps` are the agents' in the plan's order."""
        done = {step.report.agent_id: step for step in steps if isinstance(step, Stepped)}
        transits = self._send(plan, list(done.values()))
        records = []
        for agent_id, step in zip(plan.agent_types, steps, strict=True):
            records.append(self._record(plan, agent_id, step, transits.get(agent_id)))
            if isinstance(step, Stepped):
                self._mailbox.post(records[-1], step.payload)
        arrived = tuple(self._mailbox.collect(plan.request))
        reports = tuple(step.report for step in done.values())
        handed_over = self._division.locate(plan.request, reports)
        return Delivery(tuple(records), reports, arrived, self._division.share_out(plan.request, arrived), handed_over)

    def post_late(self, plan: TickPlan, step: Stepped[Payload]) -> None:
        """Send a message that was not computed by its tick's deadline."""
        agent_id = step.report.agent_id
        self._division.locate(plan.request, [step.report])
        record = self._record(plan, agent_id, step, self._send(plan, [step]).get(agent_id))
        self._mailbox.post(replace(record, status="late") if record.status == "used" else record, step.payload)

    def _send(self, plan: TickPlan, steps: Sequence[Stepped[Payload]]) -> dict[str, Transit]:
        """What the network does with the messages that cross it."""
        crossing = [step for step in steps if not self._division.is_own(step.report.agent_id, plan.outline.ego_id)]
        parcels = [
            Parcel(step.report.agent_id, plan.outline.timestamp_ns + round(step.elapsed_ms * 1e6), step.report.size_bytes)
            for step in crossing
        ]
        transits = self._network.send(plan.number, parcels)
        if self._rate:
            for parcel, transit in zip(parcels, transits, strict=True):
                self._rate.observe(plan.number, parcel.agent_id, parcel.size_bytes, transit, parcel.sent_ns)
        return {parcel.agent_id: transit for parcel, transit in zip(parcels, transits, strict=True)}

    def _record(self, plan: TickPlan, agent_id: str, step: Stepped[Payload] | Missing, transit: Transit | None) -> MessageRecord:
        """What became of an agent's message on its way; what arrives in time is `used` until the fusion node says otherwise."""
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
        """Join all that is known of a tick once its tasks have been answered; None for one whose fusion node did not."""
        outline, options = plan.outline, self.options
        senders = [(record.agent_id, record.tick) for record, _ in delivery.arrived]
        outcome = self._division.join(plan.request, delivery.tasks, outcomes, senders)
        detections = Detections.empty() if outcome is None else outcome.detections
        objects = self._objects(plan, delivery.reports)
        if not options.include_ego:
            objects = without_vehicle_at(objects, outline.world_SE3_ego)
            detections = detections.select(~boxes_around_origin(detections.boxes))
        rejected = () if outcome is None else outcome.rejected
        return TickResult(
            tick=plan.tick,
            scene_id=outline.scene_id,
            timestamp_ns=outline.timestamp_ns,
            ego_id=outline.ego_id,
            world_SE3_ego=outline.world_SE3_ego,
            detections=detections,
            ground_truth=objects_in_frame(objects, outline.world_SE3_ego, self.alliance.grid.range_m, options.use_z),
            messages=_judged(delivery.records, rejected, outcome is not None),
            latency=None if outcome is None else outcome.latency,
            lag_ms=plan.lag_ms,
            views=tuple(view for report in delivery.reports if (view := _view(report)) is not None),
            held=() if outcome is None else outcome.held,
            late_rejections=tuple(rejection for rejection in rejected if rejection.tick != plan.tick),
            faults=tuple(faults),
            handed_over=delivery.handed_over,
        )

    def _objects(self, plan: TickPlan, reports: Sequence[AgentReport]) -> ObjectLabels:
        """All labels of the scene; agents that take no part, or have died, are asked through the source."""
        objects = self.source.scene_objects(plan.tick)
        if objects is not None:
            return objects
        known = {report.agent_id: report.objects for report in reports}
        ids = plan.outline.agent_ids
        return ObjectLabels.union([known[i] if i in known else self.source.agent_frame(plan.tick, i).objects for i in ids])


def arrivals_of(arrived: Sequence[tuple[MessageRecord, Buffer]]) -> list[Arrival]:
    """Messages as the fusion node takes them."""
    return [Arrival(record.agent_id, payload, record.tick) for record, payload in arrived]


def _view(report: AgentReport) -> AgentView | None:
    if report.points is None or report.heat is None:
        return None
    return AgentView(report.agent_id, report.world_SE3_agent, report.points, report.heat)


def _judged(records: Sequence[MessageRecord], rejected: Sequence[Rejection], answered: bool) -> tuple[MessageRecord, ...]:
    """The records with the fusion node's word on them."""
    by_sender = {(rejection.agent_id, rejection.tick): rejection for rejection in rejected}
    judged = []
    for record in records:
        rejection = by_sender.get((record.agent_id, record.tick))
        if record.status == "used" and not answered:
            record = replace(record, status="lost", reason=NODE_AWAY)
        elif record.status == "used" and rejection is not None:
            status: MessageStatus = _STATUS_OF_REJECTION.get(rejection.reason, "rejected")
            reason = rejection.detail if status == "out of range" else f"{rejection.reason}: {rejection.detail}"
            record = replace(record, status=status, reason=reason)
        judged.append(record)
    return tuple(judged)
