"""What a report keeps of a run while it goes on: one small row for each tick, no cloud, no map; and series made of the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heal.agents.records import Fault, HeldMap, MessageCounts, MessageRecord, MessageStatus, NodeLatency, Rejection, TickResult
from heal.metrics import IOU_THRESHOLDS, FrameMatch, average_precision
from heal.types import Float64

FOUND_AT = IOU_THRESHOLDS.index(0.5)
# Points of the curves of AP over time; each one sorts all detections up to there.
AP_POINTS = 60
STATUSES: tuple[MessageStatus, ...] = ("used", "late", "lost", "rejected", "out of range")


@dataclass(frozen=True)
class TickRow:
    """A tick of a run.

    Attributes:
        tick: index of the scene in its source.
        timestamp_ns: its instant.
        scene_id: the scene's name.
        match: which detections found an object, and which objects were found, at the three thresholds.
        messages: what became of each agent's message.
        held: older maps that stood in.
        late_rejections: why messages of earlier ticks were turned down.
        faults: what broke or came back.
        latency: of the fusion node's stages, None where it did not answer.
    """

    tick: int
    timestamp_ns: int
    scene_id: str
    match: FrameMatch
    messages: tuple[MessageRecord, ...]
    held: tuple[HeldMap, ...]
    late_rejections: tuple[Rejection, ...]
    faults: tuple[Fault, ...]
    latency: NodeLatency | None

    @property
    def found(self) -> int:
        """Objects found at IoU 0.5."""
        return int(self.match.found[FOUND_AT].sum())


@dataclass(frozen=True)
class AgentRow:
    """An agent over the whole run.

    Attributes:
        agent_id: which.
        agent_type: its type; the last one if it has had several.
        own: how many of its messages were the ego's, read on board.
        counts: of its messages over a link.
        held: how often an older map of its stood in.
        reasons: why messages were not used, without the numbers of the single case, and how often.
    """

    agent_id: str
    agent_type: str
    own: int
    counts: MessageCounts
    held: int
    reasons: Counter[str]


class ReportData:
    """The rows of a run; a tick takes some kilobytes."""

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self.rows: list[TickRow] = []

    def add(self, result: TickResult) -> None:
        """Keep what a report needs of a tick."""
        self.rows.append(
            TickRow(
                tick=result.tick,
                timestamp_ns=result.timestamp_ns,
                scene_id=result.scene_id,
                match=result.match,
                messages=result.messages,
                held=result.held,
                late_rejections=result.late_rejections,
                faults=result.faults,
                latency=result.latency,
            )
        )

    @property
    def ticks(self) -> list[int]:
        """The ticks in their order."""
        return [row.tick for row in self.rows]

    @property
    def agent_ids(self) -> list[str]:
        """The agents in the order in which they were first seen, which is the ego first."""
        return list(dict.fromkeys(record.agent_id for row in self.rows for record in row.messages))

    def agents(self) -> list[AgentRow]:
        """What became of each agent's messages."""
        return [_agent_row(self.rows, agent_id) for agent_id in self.agent_ids]

    def bytes_of(self, agent_id: str) -> Float64:
        """(T,) bytes that an agent sent over its link in each tick; NaN where it sent none."""
        sent = [
            sum(record.size_bytes for record in row.messages if record.agent_id == agent_id and not record.own) for row in self.rows
        ]
        return np.array([size or np.nan for size in sent], np.float64)

    def counts(self) -> tuple[Float64, Float64, Float64]:
        """(T,) detections, labelled objects, and objects found at IoU 0.5, of each tick."""
        pairs = [(len(row.match.scores), row.match.found.shape[1], row.found) for row in self.rows]
        detections, labelled, found = np.array(pairs, np.float64).reshape(-1, 3).T
        return detections, labelled, found

    def ap_over_time(self, window: int | None) -> Float64:
        """(3, T) AP at the three thresholds of the last `window` ticks, or of all ticks so far.

        A long run is computed at some points, with straight lines between them.
        """
        count = len(self.rows)
        ends = np.unique(np.linspace(1, count, min(count, AP_POINTS)).round().astype(int))
        points = []
        for end in ends:
            rows = self.rows[: int(end)] if window is None else self.rows[max(0, int(end) - window) : int(end)]
            points.append(list(average_precision([row.match for row in rows], IOU_THRESHOLDS).ap.values()))
        return np.array([np.interp(np.arange(1, count + 1), ends, ap) for ap in zip(*points, strict=True)])


def _agent_row(rows: Sequence[TickRow], agent_id: str) -> AgentRow:
    records = [record for row in rows for record in row.messages if record.agent_id == agent_id]
    reasons = Counter(record.kind for record in records if record.status in ("lost", "rejected"))
    late = [rejection for row in rows for rejection in row.late_rejections if rejection.agent_id == agent_id]
    reasons.update(f"rejected when it came late: {rejection.reason}" for rejection in late)
    return AgentRow(
        agent_id=agent_id,
        agent_type=records[-1].agent_type,
        own=sum(record.own for record in records),
        counts=MessageCounts.of(records),
        held=sum(held.agent_id == agent_id for row in rows for held in row.held),
        reasons=reasons,
    )
