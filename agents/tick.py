"""The course of a tick, equal for all runtimes: which agents take part, what the links do, what becomes of every message."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import Generic, TypeVar

from heal.agent_types import TypesOf
from heal.agents.agent import AgentSetup
from heal.agents.door.clock import RunFacts
from heal.agents.door.gateway import ClosedDoor, Door
from heal.agents.door.outside import OutsideAgents
from heal.agents.failures import Failures, in_one_line
from heal.agents.faults import Fault
from heal.agents.fusion.division import divide
from heal.agents.fusion.plausible import implausible_pose
from heal.agents.interfaces import AllianceLike
from heal.agents.joining import Joining
from heal.agents.labels import TickLabels, read_labels
from heal.agents.mailbox import Mailbox
from heal.agents.message_records import AgentLatency, MessageRecord, MessageStatus
from heal.agents.network.network import Network
from heal.agents.network.rate_control import RateControl
from heal.agents.network.transit import Transit, Transmission
from heal.agents.options import RunOptions
from heal.agents.pacer import Pacer
from heal.agents.reach import measured_pose, reach_of
from heal.agents.records import (
    LOST_WITH_MACHINE,
    NO_POINTS,
    NODE_AWAY,
    OUT_OF_RANGE,
    AgentAside,
    AgentReport,
    AgentView,
    Arrival,
    FusionOutcome,
    Rejection,
    TickResult,
)
from heal.agents.tick_plan import AgentStep, Delivery, Missing, TickPlan
from heal.agents.truth import TruthRule
from heal.detection.detections import Detections
from heal.errors import UserError
from heal.identity.envelope import ENVELOPE_BYTES
from heal.message.codec import FLOAT32, Codec
from heal.message.message import Buffer
from heal.storage.compressors import require_compressor
from heal.types import MAP_SPLITS, Float64, SceneSource

Payload = TypeVar("Payload")
_STATUS_OF_REJECTION: dict[str, MessageStatus] = {OUT_OF_RANGE: "out of range", LOST_WITH_MACHINE: "lost", NODE_AWAY: "lost"}
LONGEST_BUSY_S = 60.0


class TickCoordinator(Generic[Payload]):
    """Plans ticks, sends their messages, and joins what is known of them in the end."""

    def __init__(
        self,
        alliance: AllianceLike,
        source: SceneSource,
        types_of: TypesOf,
        network: Network,
        options: RunOptions,
        tolerant: bool = False,
    ) -> None:
        """Coordinate one run.

        Args:
            alliance: this and the next four as for `heal.agents.runtime.open_runtime`.
            source: see there.
            types_of: see there.
            network: see there.
            options: see there.
            tolerant: whether labels that cannot be read are a fault of their agent, and the run goes on without them.
        """
        self.alliance, self.source, self.types_of, self.options = alliance, source, types_of, options
        if options.codec.ae_ratio is not None:
            require_compressor(alliance.compressors, options.codec.ae_ratio)
        self._network = network
        self._division = divide(options, alliance.grid, alliance.base.config.decode)
        self._rule = TruthRule.of(options, alliance.grid.range_m)
        self._mailbox: Mailbox[Payload] = Mailbox(options)
        self._rate = RateControl(options.deadline_ms) if options.adapt else None
        self.pacer = Pacer(options.rate_hz) if options.realtime else None
        self._planned = self._dropped = 0
        self._label_source = source
        self._tolerant, self._failures = tolerant, Failures()
        self._late_faults, self._late_steps = list[Fault](), list[tuple[str, AgentLatency]]()
        self._late_losses = list[Rejection]()
        self._joining = Joining(options.joins, options.agents, self._problem_of)
        self._outside: OutsideAgents[Payload] = OutsideAgents(ClosedDoor(), options, self.pacer)
        self._known_types, self._later_trust = set(alliance.agent_names), dict[str, float]()

    @property
    def facts(self) -> RunFacts:
        """What outside agents must know of the run."""
        return RunFacts(self.alliance.base_hash, self.options.split, self.alliance.grid)

    def open_door(self, door: Door[Payload]) -> None:
        """Let outside agents take part whose messages come through a door, which `close_door` closes."""
        self._outside = OutsideAgents(door, self.options, self.pacer)

    def close_door(self) -> None:
        """Tell outside agents that the run is over."""
        self._outside.close()

    def agent_setup(self, agent_type: str) -> AgentSetup:
        """Return what the agents of one type need."""
        return AgentSetup.of(self.alliance, agent_type, self.source, self.options)

    def due(self, ticks: Iterable[int], is_kept: Callable[[int], bool] = lambda _: False) -> Iterator[int]:
        """Yield the ticks to run; by the wall clock without those that the next tick has overtaken, except those that are kept."""
        if self.pacer is None:
            yield from ticks
        else:
            for tick, dropped in self.pacer.due(ticks, lambda index: self.source.outline(index).timestamp_ns, is_kept):
                self._dropped = dropped
                yield tick

    def settle_elsewhere(self, tick: int) -> None:
        """Let `settle` be called in a thread of its own: it reads labels from a copy of the source, which is opened now."""
        self._label_source = pickle.loads(pickle.dumps(self.source))
        self._label_source.outline(tick)

    def start_clock(self, plan: TickPlan) -> TickPlan:
        """Let the first tick begin now, by the wall clock; everything is ready for it. Return its plan with this begin."""
        if self.pacer is not None:
            self.pacer.start()
        return replace(plan, began_s=monotonic())

    def plan(self, tick: int) -> TickPlan:
        """Plan a tick; by the wall clock, wait until the tick is due."""
        outline = self.source.outline(tick)
        assigned = self.types_of(outline)
        if outline.ego_id not in assigned:
            raise UserError(
                f"scene {outline.scene_id}: the ego {outline.ego_id!r} has no agent type, and nothing is fused without it"
            )
        is_reached = reach_of(self.source, tick, outline.ego_id, self.options.ego_range_m)
        types, faults = self._joining.taking_part(tick, outline, assigned, is_reached)
        self._require_types(types.values())
        self._later_trust |= {name: self.alliance.trust_of(name) for name in set(types.values()) - self._known_types}
        self._known_types |= set(types.values())
        number, self._planned = self._planned, self._planned + 1
        own = outline.ego_id if outline.ego_id in types and self._division.is_own(outline.ego_id, outline.ego_id) else None
        codecs = {agent_id: FLOAT32 if agent_id == own else self._codec(number, agent_id) for agent_id in types}
        lag_ms = self.pacer.wait() if self.pacer else 0.0
        began_s, trust = monotonic(), dict(self._later_trust)
        plan = TickPlan(tick, number, outline, types, codecs, lag_ms, began_s, self._dropped, trust, tuple(faults), own)
        self._outside.planned(plan)
        return plan

    def _problem_of(self, agent_type: str) -> str:
        """Return why an agent type cannot be used; "" if it can. It may appear in the alliance's folder while the run goes on."""
        try:
            self.alliance.agent(agent_type)
            self._require_types([agent_type])
        except UserError as error:
            return in_one_line(error)
        return ""

    def _require_types(self, agent_types: Iterable[str]) -> None:
        """Raise UserError if maps are fused and the base's fusion cannot take those of agents of these types."""
        if self.options.split in MAP_SPLITS:
            self.alliance.base.fusion.require_types(agent_types)

    def _codec(self, number: int, agent_id: str) -> Codec:
        """Return the run's codec, with a budget that fits the rate of the agent's link, envelope included, if the run adapts."""
        codec = self.options.codec
        fitting = self._rate.budget_bytes(number, agent_id) if self._rate else None
        if fitting is not None and self.options.keys is not None:
            fitting = max(fitting - ENVELOPE_BYTES, 1)
        known = [limit for limit in (codec.budget_bytes, fitting) if limit is not None]
        return replace(codec, budget_bytes=min(known)) if known else codec

    def deliver(self, plan: TickPlan, steps: Sequence[AgentStep[Payload] | Missing]) -> Delivery[Payload]:
        """Send the messages of a tick over the network.

        Args:
            plan: of the tick.
            steps: in the order of the plan's agents.

        Raises:
            Exception: the error of the first agent, if all agents have failed and none has worked since the run began.
        """
        late, self._late_steps = tuple(self._late_steps), []
        failed = self._note_failures(plan, dict(zip(plan.agent_types, steps, strict=True)))
        faults, steps = (*plan.faults, *self._late_faults, *failed), [_with_message(step) for step in steps]
        self._late_faults = []
        done = {step.report.agent_id: step for step in steps if isinstance(step, AgentStep)}
        transits = self._send(plan, list(done.values()))
        own = done.get(plan.own or "")
        own_ms = 0.0 if own is None else own.elapsed_ms
        # By the wall clock the ego may take longer than the deadline; a fusion without its map would find nothing around it.
        deadline_ms = max(self.options.deadline_ms, own_ms)
        records = []
        for agent_id, step in zip(plan.agent_types, steps, strict=True):
            records.append(self._record(plan, agent_id, step, transits.get(agent_id), deadline_ms))
            if isinstance(step, AgentStep):
                self._mailbox.post(records[-1], step.payload)
        outside = self._outside.collect(plan, deadline_ms, self._known_types)
        for record, message in outside.posts:
            self._mailbox.post(record, message)
        records += outside.records
        reports = tuple(step.report for step in done.values())
        request = plan.request(self._measured_ego_pose(plan, reports))
        arrived = tuple(self._mailbox.collect(request, deadline_ms))
        handed_over = self._division.locate(request, reports)
        tasks = self._division.share_out(request, arrived)
        waited_ms = own_ms if all(record.own for record in records) else deadline_ms  # an ego alone waits for no messages
        losses, self._late_losses = self._late_losses, []
        told = late, (*faults, *outside.faults), outside.turned_away, (*losses, *self._mailbox.take_unread())
        return Delivery(request, tuple(records), reports, arrived, tasks, handed_over, waited_ms, *told)

    def _measured_ego_pose(self, plan: TickPlan, reports: Sequence[AgentReport]) -> Float64:
        """Return the pose that the ego measures, which is read from the source if the ego has no report in this tick.

        The true pose stands in only where the ego's pose cannot be read, or is implausible.
        """
        ego_id = plan.outline.ego_id
        reported = [report.world_SE3_agent_measured for report in reports if report.agent_id == ego_id]
        measured = reported[0] if reported else measured_pose(self.source, plan.tick, ego_id)
        return plan.outline.world_SE3_ego if measured is None or implausible_pose(measured) is not None else measured

    def post_late(self, plan: TickPlan, agent_id: str, step: AgentStep[Payload] | Missing) -> None:
        """Send a message that was finished after the deadline of its tick; if the step has failed, the next tick has the fault."""
        self._late_faults += self._note_failures(plan, {agent_id: step})
        step = _with_message(step)
        if isinstance(step, Missing):
            self._late_losses.append(Rejection(agent_id, plan.tick, step.reason, "" if step.failure is None else step.failure.text))
            return
        # The frame of the request does not matter: a position is stored with the time and the recording of its tick.
        self._division.locate(plan.request(plan.outline.world_SE3_ego), [step.report])
        self._late_steps.append((agent_id, step.report.latency))
        record = self._record(plan, agent_id, step, self._send(plan, [step]).get(agent_id), self.options.deadline_ms)
        if record.status == "lost":
            self._late_losses.append(Rejection(agent_id, plan.tick, record.kind, record.detail))
        self._mailbox.post(replace(record, status="late") if record.status == "used" else record, step.payload)

    def _note_failures(self, plan: TickPlan, steps: Mapping[str, AgentStep[Payload] | Missing]) -> list[Fault]:
        """Return the faults and recoveries of agents that have stepped; the error of a run in which no agent works is raised."""
        faults: list[Fault] = []
        for agent_id, step in steps.items():
            if isinstance(step, AgentStep) or step.failure is not None:
                faults += self._failures.note(agent_id, None if isinstance(step, AgentStep) else step.failure)
        self._failures.check(plan.agent_types)
        return faults

    def _send(self, plan: TickPlan, steps: Sequence[AgentStep[Payload]]) -> dict[str, Transit]:
        """Send messages over the network; returns what became of those that cross it, by agent."""
        crossing = [step for step in steps if not self._division.is_own(step.report.agent_id, plan.outline.ego_id)]
        transmissions = [
            Transmission(step.report.agent_id, plan.outline.timestamp_ns + round(step.elapsed_ms * 1e6), step.report.size_bytes)
            for step in crossing
        ]
        transits = self._network.send(plan.number, transmissions, plan.outline.timestamp_ns)
        if self._rate:
            for transmission, transit in zip(transmissions, transits, strict=True):
                self._rate.observe(plan.number, transmission.agent_id, transmission.size_bytes, transit, transmission.sent_ns)
        return {transmission.agent_id: transit for transmission, transit in zip(transmissions, transits, strict=True)}

    def _record(
        self, plan: TickPlan, agent_id: str, step: AgentStep[Payload] | Missing, transit: Transit | None, deadline_ms: float
    ) -> MessageRecord:
        """Record an agent's message; one that arrives in time counts as used until a fusion node rejects it."""
        tick_ns, own = plan.outline.timestamp_ns, self._division.is_own(agent_id, plan.outline.ego_id)
        record = MessageRecord(plan.tick, agent_id, plan.agent_types[agent_id], own, 0, tick_ns, None, "lost")
        if isinstance(step, Missing):
            detail = "" if step.failure is None else step.failure.text
            return replace(record, status="late" if step.late else "not sent", reason=step.reason, detail=detail)
        sent_ns = tick_ns + round(step.elapsed_ms * 1e6)
        record = replace(record, size_bytes=step.report.size_bytes, sent_ns=sent_ns, latency=step.report.latency)
        arrival_ns = sent_ns if transit is None else transit.arrival_ns
        if arrival_ns is None:
            return replace(record, reason="" if transit is None else transit.reason)
        if arrival_ns - tick_ns > round(deadline_ms * 1e6):
            return replace(record, arrival_ns=arrival_ns, status="late", reason="after the deadline")
        return replace(record, arrival_ns=arrival_ns, status="used")

    def settle(
        self,
        plan: TickPlan,
        delivery: Delivery[Payload],
        outcomes: Sequence[FusionOutcome | None],
        asides: Sequence[AgentAside] = (),
        faults: Sequence[Fault] = (),
    ) -> TickResult:
        """Make the result of a tick.

        Args:
            plan: of the tick.
            delivery: its messages.
            outcomes: of the delivery's tasks; None for a fusion node that did not answer.
            asides: what the agents tell beside their messages.
            faults: processes that broke or returned, and planned faults that hit nothing.
        """
        outcome = self._division.join(delivery.request, delivery.tasks, outcomes, delivery.senders)
        read = self._read_labels(plan, delivery, asides)
        result = self._result(plan, delivery, outcome, read)
        return replace(result, views=_views(delivery, asides), faults=(*faults, *delivery.faults, *read.faults))

    def _result(self, plan: TickPlan, delivery: Delivery[Payload], outcome: FusionOutcome | None, read: TickLabels) -> TickResult:
        """Return the result of a tick without views and faults."""
        outline, truth = plan.outline, self._rule.ground_truth(read.objects, plan.outline.world_SE3_ego)
        alone = None if outcome is None else outcome.alone
        return TickResult(
            tick=plan.tick,
            scene_id=outline.scene_id,
            timestamp_ns=outline.timestamp_ns,
            ego_id=outline.ego_id,
            world_SE3_ego=outline.world_SE3_ego,
            detections=self._rule.select(Detections.empty() if outcome is None else outcome.detections),
            ground_truth=truth,
            messages=_with_rejections(delivery.records, outcome),
            latency=None if outcome is None else outcome.latency,
            lag_ms=plan.lag_ms,
            dropped=plan.dropped,
            held=() if outcome is None else outcome.held,
            late_rejections=_late_rejections(delivery, outcome),
            handed_over=delivery.handed_over,
            objects=read.objects,
            wait_ms=self._wait_ms(plan, delivery, outcome),
            late=delivery.late,
            alone=None if alone is None else self._rule.select(alone),
            guard=None if outcome is None else outcome.guard,
            visibility=read.visibility(truth, outline.ego_id),
            turned_away=delivery.turned_away,
            class_names=self.alliance.base.config.class_names,
        )

    def _read_labels(self, plan: TickPlan, delivery: Delivery[Payload], asides: Sequence[AgentAside]) -> TickLabels:
        """Return the labels of a tick; an agent that has failed already is no second fault if its labels cannot be read either."""
        options = self.options
        read = read_labels(
            plan.tick,
            plan.outline,
            delivery.reports,
            asides,
            self._label_source,
            range_m=options.truth_range_m,
            counts=options.count_points,
            tolerant=self._tolerant,
        )
        failed = {fault.agent_id for fault in delivery.faults if not fault.is_recovery}
        return replace(read, faults=tuple(fault for fault in read.faults if fault.agent_id not in failed))

    def _wait_ms(self, plan: TickPlan, delivery: Delivery[Payload], outcome: FusionOutcome | None) -> float:
        """Return how long after its instant the result of a tick is ready."""
        if self.pacer is None or outcome is None:
            return plan.lag_ms + delivery.waited_ms
        # The fusion node may have been busy with the tick before. Another machine's clock tells nothing.
        begun_ms = self.pacer.data_ms(outcome.latency.began_s - plan.began_s)
        busy_ms = begun_ms - delivery.waited_ms
        waited_ms = begun_ms if 0 < busy_ms <= self.pacer.data_ms(LONGEST_BUSY_S) else delivery.waited_ms
        return plan.lag_ms + waited_ms + self.pacer.data_ms(outcome.latency.total_ms / 1e3)


def arrivals_of(arrived: Sequence[tuple[MessageRecord, Buffer]]) -> list[Arrival]:
    """Turn records and bytes into the arrivals that a fusion node reads."""
    return [Arrival(record.agent_id, payload, record.tick) for record, payload in arrived]


def _with_message(step: AgentStep[Payload] | Missing) -> AgentStep[Payload] | Missing:
    """Return the step of an agent; of an agent with nothing to send, that it has no message."""
    return Missing(NO_POINTS) if isinstance(step, AgentStep) and not step.report.size_bytes else step


def _views(delivery: Delivery[Payload], asides: Sequence[AgentAside]) -> tuple[AgentView, ...]:
    """Return the views of the agents whose messages were sent in time, in the order of their reports."""
    views = {aside.agent_id: aside.view for aside in asides}
    return tuple(view for report in delivery.reports if (view := views.get(report.agent_id)) is not None)


def _late_rejections(delivery: Delivery[Payload], outcome: FusionOutcome | None) -> tuple[Rejection, ...]:
    """Return the rejections that no record of the tick has: of messages of earlier ticks, and of second copies."""
    tick = delivery.request.tick
    if outcome is None:
        away = [Rejection(*sender, NODE_AWAY, "") for sender in delivery.senders if sender[1] != tick]
        return *delivery.unread, *away
    unused = outcome.unused
    return *delivery.unread, *(one for one in outcome.rejected if one.tick != tick or one is not unused.get(one.sender))


def _with_rejections(records: Sequence[MessageRecord], outcome: FusionOutcome | None) -> tuple[MessageRecord, ...]:
    """Update the records by the answers of the fusion nodes: lost without an answer, rejected, or used."""
    unused, judged = {} if outcome is None else outcome.unused, []
    for record in records:
        rejection = unused.get((record.agent_id, record.tick))
        if record.status == "used" and outcome is None:
            record = replace(record, status="lost", reason=NODE_AWAY)
        elif record.status == "used" and rejection is not None:
            status: MessageStatus = _STATUS_OF_REJECTION.get(rejection.reason, "rejected")
            record = replace(record, status=status, reason=rejection.reason, detail=rejection.detail)
        judged.append(record)
    return tuple(judged)
