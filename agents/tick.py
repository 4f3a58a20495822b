"""The bookkeeping of a tick, equal for all runtimes: who takes part, what the links do, what became of every message."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from heal.agent_model import AgentModel
from heal.agents.agent import AgentKit
from heal.agents.fusion_node import OUT_OF_RANGE
from heal.agents.link import Link, LinkFactory
from heal.agents.records import (
    AgentCloud,
    AgentReport,
    FusionOutcome,
    FusionRequest,
    MessageRecord,
    Rejection,
    RunOptions,
    TickResult,
)
from heal.agents.types_of import TypesOf, ego_first
from heal.base_model import BaseModel
from heal.boxes import boxes_around_origin
from heal.grid import BevGrid
from heal.ground_truth import objects_in_frame, without_vehicle_at
from heal.types import ObjectLabels, SceneOutline, SceneSource

DIED = "agent died"


class AllianceLike(Protocol):
    """What a run needs of an alliance; `heal.alliance.Alliance` is one."""

    base: BaseModel

    @property
    def base_hash(self) -> str:
        """Content hash of the base."""
        ...

    @property
    def grid(self) -> BevGrid:
        """Of all feature maps."""
        ...

    @property
    def agent_names(self) -> tuple[str, ...]:
        """The agent types."""
        ...

    def agent(self, name: str, /) -> AgentModel:
        """The network of one type."""
        ...


@dataclass(frozen=True)
class TickPlan:
    """Who does what in a tick.

    Attributes:
        tick: index of the scene in its source.
        outline: of the scene.
        agent_types: the agents that take part, ego first, and their types.
        lag_ms: how late the tick begins by the wall clock.
    """

    tick: int
    outline: SceneOutline
    agent_types: Mapping[str, str]
    lag_ms: float

    @property
    def request(self) -> FusionRequest:
        """What the fusion node is asked for."""
        outline = self.outline
        return FusionRequest(self.tick, outline.timestamp_ns, outline.ego_id, outline.world_SE3_ego)


class TickBook:
    """Plans ticks and settles their accounts."""

    def __init__(
        self, alliance: AllianceLike, source: SceneSource, types_of: TypesOf, links: LinkFactory, options: RunOptions
    ) -> None:
        """For one run; arguments as for the runtimes."""
        self.alliance, self.source, self.types_of, self.options = alliance, source, types_of, options
        self._make_link = links
        self._links: dict[str, Link] = {}
        self._pacer = Pacer() if options.realtime else None

    def kit(self, agent_type: str) -> AgentKit:
        """The equipment of agents of one type."""
        alliance, source = self.alliance, self.source
        model = alliance.agent(agent_type)
        return AgentKit(agent_type, model, alliance.base_hash, alliance.grid, source, self.options.keep_points)

    def plan(self, tick: int) -> TickPlan:
        """Who takes part in a tick; in wall-clock time, waits until it is due."""
        outline = self.source.outline(tick)
        assigned = self.types_of(outline)
        if outline.ego_id not in assigned:
            raise ValueError(
                f"scene {outline.scene_id}: the ego {outline.ego_id!r} has no agent type, and nothing is fused without it"
            )
        there = [agent_id for agent_id in ego_first(outline) if agent_id in assigned]
        types = {agent_id: assigned[agent_id] for agent_id in there[: self.options.agents]}
        return TickPlan(tick, outline, types, self._pacer.wait(outline.timestamp_ns) if self._pacer else 0.0)

    def deliver(self, plan: TickPlan, reports: Sequence[AgentReport | None]) -> tuple[MessageRecord, ...]:
        """Send the messages over their links.

        Args:
            plan: of the tick.
            reports: of the agents in the plan's order; None of one that died.

        Returns:
            Their records; those in time are `used` until the fusion node says otherwise.
        """
        agents = zip(plan.agent_types.items(), reports, strict=True)
        return tuple(self._deliver(plan, agent_id, agent_type, report) for (agent_id, agent_type), report in agents)

    def _deliver(self, plan: TickPlan, agent_id: str, agent_type: str, report: AgentReport | None) -> MessageRecord:
        sent_ns, own = plan.outline.timestamp_ns, agent_id == plan.outline.ego_id
        record = MessageRecord(agent_id, agent_type, own, 0, sent_ns, None, "lost", DIED)
        if report is None:
            return record
        record = replace(record, size_bytes=report.size_bytes, latency=report.latency)
        arrival_ns = sent_ns if own else self._link(agent_id).deliver(sent_ns, report.size_bytes, plan.tick)
        if arrival_ns is None:
            return replace(record, reason="on the link")
        if arrival_ns - sent_ns > self.options.deadline_ms * 1e6:
            return replace(record, arrival_ns=arrival_ns, status="late", reason="after the deadline")
        return replace(record, arrival_ns=arrival_ns, status="used", reason="")

    def _link(self, agent_id: str) -> Link:
        if agent_id not in self._links:
            self._links[agent_id] = self._make_link(agent_id)
        return self._links[agent_id]

    def settle(
        self,
        plan: TickPlan,
        reports: Sequence[AgentReport | None],
        records: Sequence[MessageRecord],
        outcome: FusionOutcome,
    ) -> TickResult:
        """Join all that is known of a tick once the fusion node has answered."""
        outline, options = plan.outline, self.options
        objects, detections = self._objects(plan, reports), outcome.detections
        if not options.include_ego:
            objects = without_vehicle_at(objects, outline.world_SE3_ego)
            detections = detections.select(~boxes_around_origin(detections.boxes))
        truth = objects_in_frame(objects, outline.world_SE3_ego, self.alliance.grid.range_m, options.use_z)
        rejections = {rejection.agent_id: rejection for rejection in outcome.rejected}
        return TickResult(
            tick=plan.tick,
            scene_id=outline.scene_id,
            timestamp_ns=outline.timestamp_ns,
            ego_id=outline.ego_id,
            world_SE3_ego=outline.world_SE3_ego,
            detections=detections,
            ground_truth=truth,
            messages=tuple(_judged(record, rejections.get(record.agent_id)) for record in records),
            latency=outcome.latency,
            lag_ms=plan.lag_ms,
            clouds=tuple(
                AgentCloud(report.agent_id, report.world_SE3_agent, report.points)
                for report in reports
                if report is not None and report.points is not None
            ),
        )

    def _objects(self, plan: TickPlan, reports: Sequence[AgentReport | None]) -> ObjectLabels:
        """All labels of the scene; agents that take no part, or have died, are asked through the source."""
        objects = self.source.scene_objects(plan.tick)
        if objects is not None:
            return objects
        known = {report.agent_id: report.objects for report in reports if report is not None}
        ids = plan.outline.agent_ids
        return ObjectLabels.union([known[i] if i in known else self.source.agent_frame(plan.tick, i).objects for i in ids])


class Pacer:
    """Lets ticks begin at their own times by the wall clock."""

    MAX_STEP_S = 1.0
    NOMINAL_STEP_S = 0.1

    def __init__(self) -> None:
        """Nothing has begun yet."""
        self._last_ns: int | None = None
        self._due_s: float | None = None

    def wait(self, timestamp_ns: int) -> float:
        """Sleep until a tick is due; returns how late it is, in milliseconds.

        The clock starts with the second tick, as during the first one networks are loaded and towns are built. Where recordings
        follow each other their times jump; such a step counts as a tenth of a second.
        """
        step_s = 0.0 if self._last_ns is None else (timestamp_ns - self._last_ns) / 1e9
        first, self._last_ns = self._last_ns is None, timestamp_ns
        if first:
            return 0.0
        if self._due_s is None:
            self._due_s = time.monotonic()
            return 0.0
        self._due_s += step_s if 0 <= step_s <= self.MAX_STEP_S else self.NOMINAL_STEP_S
        time.sleep(max(0.0, self._due_s - time.monotonic()))
        return (time.monotonic() - self._due_s) * 1e3


def _judged(record: MessageRecord, rejection: Rejection | None) -> MessageRecord:
    """The record with the fusion node's word on it."""
    if record.status != "used" or rejection is None:
        return record
    if rejection.reason == OUT_OF_RANGE:
        return replace(record, status="out of range", reason=rejection.detail)
    return replace(record, status="rejected", reason=f"{rejection.reason}: {rejection.detail}")
