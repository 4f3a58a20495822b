"""What a report keeps of a run: one small row for each tick, without point clouds or feature maps; and series over the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heal.agents.faults import Fault
from heal.agents.message_records import REASONED, MessageCounts, MessageRecord
from heal.agents.records import HeldMap, Rejection, TickResult
from heal.detection.metrics import IOU_THRESHOLDS, FrameMatch, average_precision
from heal.types import Float64

FOUND_AT = IOU_THRESHOLDS.index(0.5)
# Number of points of a curve of AP over time; each point sorts all detections of its ticks.
AP_POINTS = 60


@dataclass(frozen=True)
class TickRow:
    """One tick of a run.

    Attributes:
        tick: index of the scene in its source.
        timestamp_ns: simulated time of the tick.
        match: which detections match an object, and which objects are found, at the three IoU thresholds.
        messages: status of every agent's message.
        held: older maps that the fusion node used in place of missing ones.
        late_rejections: why the fusion node rejected messages of earlier ticks.
        faults: faults and recoveries.
    """

    tick: int
    timestamp_ns: int
    match: FrameMatch
    messages: tuple[MessageRecord, ...]
    held: tuple[HeldMap, ...]
    late_rejections: tuple[Rejection, ...]
    faults: tuple[Fault, ...]

    @property
    def found(self) -> int:
        """Number of objects found at IoU 0.5."""
        return int(self.match.found[FOUND_AT].sum())


@dataclass(frozen=True)
class AgentRow:
    """One agent over the whole run.

    Attributes:
        agent_id: name of the agent.
        agent_type: its type; the last one if the type has changed.
        counts: its messages over a link, by status.
        held: number of older maps of the agent that the fusion node used.
        reasons: how often messages were not used, by reason; a reason has no numbers of the single message.
    """

    agent_id: str
    agent_type: str
    counts: MessageCounts
    held: int
    reasons: Counter[str]


class ReportData:
    """The rows of a run, filled while it goes on; a row takes a few kilobytes."""

    def __init__(self) -> None:
        """Start with a run that has no ticks."""
        self.rows: list[TickRow] = []

    def add(self, result: TickResult) -> None:
        """Append the row of a tick."""
        self.rows.append(
            TickRow(
                tick=result.tick,
                timestamp_ns=result.timestamp_ns,
                match=result.match,
                messages=result.messages,
                held=result.held,
                late_rejections=result.late_rejections,
                faults=result.faults,
            )
        )

    @property
    def ticks(self) -> list[int]:
        """Number of each tick, in the order of the run."""
        return [row.tick for row in self.rows]

    @property
    def agent_ids(self) -> list[str]:
        """Names of all agents in the order of their first message; the first ego comes first."""
        return list(dict.fromkeys(record.agent_id for row in self.rows for record in row.messages))

    def agents(self) -> list[AgentRow]:
        """Return one row for each agent, in the order of `agent_ids`."""
        return [_agent_row(self.rows, agent_id) for agent_id in self.agent_ids]

    def bytes_of(self, agent_id: str) -> Float64:
        """Return (T,) the bytes that an agent sent over its link in each tick; NaN for a tick without a message."""
        sent = [
            sum(record.size_bytes for record in row.messages if record.agent_id == agent_id and not record.own) for row in self.rows
        ]
        return np.array([size or np.nan for size in sent], np.float64)

    def counts(self) -> tuple[Float64, Float64, Float64]:
        """Return for each tick the number (T,) of detections, of labelled objects, and of objects found at IoU 0.5."""
        per_tick = [(len(row.match.scores), row.match.objects, row.found) for row in self.rows]
        detections, labelled, found = np.array(per_tick, np.float64).reshape(-1, 3).T
        return detections, labelled, found

    def ap_over_time(self, window: int | None) -> Float64:
        """Return AP (3, T) at the three IoU thresholds after each tick; NaN where no object has been in range.

        A run of more than `AP_POINTS` ticks is evaluated at that many ticks and interpolated linearly between them.

        Args:
            window: number of latest ticks that each value covers; None for all ticks so far.
        """
        count = len(self.rows)
        ends = np.unique(np.linspace(1, count, min(count, AP_POINTS)).round().astype(int))
        points = []
        for end in ends:
            rows = self.rows[: int(end)] if window is None else self.rows[max(0, int(end) - window) : int(end)]
            aps = average_precision([row.match for row in rows], IOU_THRESHOLDS).ap.values()
            points.append([np.nan if ap is None else ap for ap in aps])
        return np.array([np.interp(np.arange(1, count + 1), ends, ap) for ap in zip(*points, strict=True)])


def _agent_row(rows: Sequence[TickRow], agent_id: str) -> AgentRow:
    """Sum up the messages of one agent over all ticks."""
    records = [record for row in rows for record in row.messages if record.agent_id == agent_id]
    reasons = Counter(record.kind for record in records if record.status in REASONED)
    late = [rejection for row in rows for rejection in row.late_rejections if rejection.agent_id == agent_id]
    reasons.update(f"rejected when it came late: {rejection.reason}" for rejection in late)
    return AgentRow(
        agent_id=agent_id,
        agent_type=records[-1].agent_type,
        counts=MessageCounts.of(records),
        held=sum(held.agent_id == agent_id for row in rows for held in row.held),
        reasons=reasons,
    )
