"""The log of a run: score, counts of messages and faults, times as percentiles, one line of JSON for each tick."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from rich.table import Table

from heal.agents.message_records import MessageCounts, MessageRecord
from heal.agents.options import RunOptions
from heal.agents.records import AGENT_STAGES, NODE_STAGES, TickResult
from heal.agents.truth import TruthRule
from heal.detection.metrics import ap_text
from heal.tools.shared.ready_score import ReadyScore
from heal.tools.shared.scoring import RunScore
from heal.tools.shared.wall_clock_log import WallClockLog

STAGES = (*AGENT_STAGES, "link", *NODE_STAGES)
PERCENTILES = (50, 95, 99)
# Before the reasons for which the run's door turned byte strings away, among the reasons of messages.
TURNED_AWAY = "turned away: "


@dataclass
class RunLog:
    """The sums over the ticks of a run.

    Attributes:
        score: AP and counts of messages.
        ready: AP at the instants at which the results are ready.
        reasons: number of messages that were not used, by reason.
        ego_missing: number of ticks in which the ego's own feature map was not used.
        held: number of older maps that the fusion node used in place of late or lost ones.
        ages_ms: ages in their tick of all fused maps that had come over a link.
        handed_over: number of times that an agent drove into another region.
        faults: number of faults and recoveries, by kind.
        node_away: number of ticks in which the fusion node did not answer.
        times_ms: all times of each stage: measured ones, of the links simulated ones.
        clock: whether the run has kept up with the wall clock, and the rates of its agents and of the fusion node.
    """

    score: RunScore
    ready: ReadyScore
    reasons: Counter[str] = field(default_factory=Counter)
    ego_missing: int = 0
    held: int = 0
    ages_ms: list[float] = field(default_factory=list)
    handed_over: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    node_away: int = 0
    times_ms: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})
    clock: WallClockLog = field(default_factory=WallClockLog)

    @staticmethod
    def of(options: RunOptions, range_m: tuple[float, ...], sensors: Mapping[str, str] | None = None) -> RunLog:
        """Make an empty log of a run whose results are evaluated in a range; `sensors` is as in `RunScore`."""
        score = RunScore(range_m, options.use_z, sensors=sensors or {})
        return RunLog(score, ReadyScore(TruthRule.of(options, range_m)), clock=WallClockLog(options.rate_hz))

    def add(self, result: TickResult) -> None:
        """Add a tick."""
        self.score.add(result, result.visibility)
        self.ready.add(result)
        self.clock.add(result)
        for _, latency in result.late:
            self._add_times(AGENT_STAGES, latency)
        for record in result.messages:
            self.add_message(record)
        self.held += len(result.held)
        self.ages_ms += result.map_ages_ms
        self.handed_over += len(result.handed_over)
        self.reasons.update(f"rejected late: {rejection.reason}" for rejection in result.late_rejections)
        self.reasons.update({f"{TURNED_AWAY}{reason}": count for reason, count in result.turned_away.items()})
        self.faults.update(fault.kind for fault in result.faults)
        if result.latency is None:
            self.node_away += 1
        else:
            self._add_times(NODE_STAGES, result.latency)

    def add_message(self, record: MessageRecord) -> None:
        """Add one message of a tick: the reason if it was not used, and its times."""
        if record.status != "used":
            self.reasons[record.kind] += 1
            self.ego_missing += record.own
        if record.latency is not None:
            self._add_times(AGENT_STAGES, record.latency)
        if record.link_ms is not None and not record.own:
            self.times_ms["link"].append(record.link_ms)

    def _add_times(self, stages: tuple[str, ...], latency: object) -> None:
        for stage in stages:
            self.times_ms[stage].append(getattr(latency, f"{stage}_ms"))

    @property
    def counts(self) -> MessageCounts:
        """The messages over links."""
        return self.score.counts

    @property
    def map_age_ms(self) -> float | None:
        """The mean age in their tick of the fused maps that had come over a link; None if there were none."""
        return sum(self.ages_ms) / len(self.ages_ms) if self.ages_ms else None

    def latency_ms(self) -> dict[str, dict[str, float]]:
        """Return stage -> percentile ("p50", ...) -> milliseconds, for every stage that has run."""
        return {
            stage: {f"p{p}": round(float(np.percentile(times, p)), 3) for p in PERCENTILES}
            for stage, times in self.times_ms.items()
            if times
        }

    def metrics(self) -> dict[str, Any]:
        """Return the scores, counts and times as entries of metrics.json."""
        return {
            **self.score.metrics(),
            "when_ready": self.ready.metrics(),
            **asdict(self.counts),
            "held": self.held,
            "map_age_ms": None if self.map_age_ms is None else round(self.map_age_ms, 1),
            "handed_over": self.handed_over,
            "reasons": dict(self.reasons),
            "faults": dict(self.faults),
            "node_away": self.node_away,
            "ego_missing": self.ego_missing,
            "latency_ms": self.latency_ms(),
        }

    def table(self) -> Table:
        """Make a table of the times of every stage; its caption counts the messages by status, and the faults."""
        counts = self.counts
        table = Table(
            "stage", *(f"p{p}, ms" for p in PERCENTILES), title="time per agent and tick, and per tick of the fusion node"
        )
        for stage, percentiles in self.latency_ms().items():
            name = "link (simulated)" if stage == "link" else stage
            table.add_row(name, *(f"{value:.1f}" for value in percentiles.values()))
        not_sent = f"; {counts.not_sent} not sent" if counts.not_sent else ""
        table.caption = (
            f"messages: {counts.sent} sent, {counts.arrived} arrived in time, {counts.late} late, {counts.lost} lost{not_sent}; "
            f"of those in time {counts.used} used, {counts.out_of_range} out of range, {counts.rejected} rejected; "
            f"{self.held} older maps used in place of missing ones; {counts.bytes / 1e6:.1f} MB sent in total"
        )
        if self.map_age_ms is not None:
            ready = " / ".join(ap_text(value) for value in self.ready.results().ap.values())
            table.caption += (
                f"\nfused maps: {self.map_age_ms:.0f} ms old on average in their tick; AP when the results are ready: {ready}"
            )
        if turned_away := {reason: count for reason, count in self.reasons.items() if reason.startswith(TURNED_AWAY)}:
            table.caption += "\nat the door " + ", ".join(f"{count} {reason}" for reason, count in sorted(turned_away.items()))
        if self.faults:
            table.caption += "\nfaults: " + ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items()))
        return table


def tick_line(result: TickResult) -> dict[str, Any]:
    """Return a tick as a line of ticks.jsonl; without measured times, so that equal runs give equal lines."""
    return {
        "tick": result.tick,
        "scene_id": result.scene_id,
        "timestamp_ns": result.timestamp_ns,
        "ego_id": result.ego_id,
        **asdict(result.counts),
        "held": [asdict(held) for held in result.held],
        "faults": [asdict(fault) for fault in result.faults],
        "handed_over": list(result.handed_over),
        **({"turned_away": dict(result.turned_away)} if result.turned_away else {}),
        "alone": None if result.alone is None else len(result.alone),
        "guard": None if result.guard is None else asdict(result.guard),
        "boxes": result.detections.boxes.tolist(),
        "scores": result.detections.scores.tolist(),
        **({"classes": result.detections.classes.tolist()} if len(result.class_names) > 1 else {}),
        "messages": [
            {
                "agent_id": record.agent_id,
                "agent_type": record.agent_type,
                "own": record.own,
                "bytes": record.size_bytes,
                "status": record.status,
                "reason": record.reason,
                "detail": record.detail,
                "link_ms": record.link_ms,
                **({"outside": True} if record.outside else {}),
            }
            for record in result.messages
        ],
    }
