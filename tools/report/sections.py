"""What each section of a report shows: numbers and names out of a run, as plain records for the template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heal.agents.faults import Fault
from heal.agents.message_records import MessageCounts
from heal.detection.metrics import IOU_THRESHOLDS, NOT_AVAILABLE, ap_text
from heal.tools.pictures.picture import format_bytes
from heal.tools.report.charts import HALF_WIDTH_PT, Chart, Frame, Series, line_chart, stacked_chart
from heal.tools.report.colors import agent_color
from heal.tools.report.history import AgentRow, ReportData
from heal.tools.shared.run_log import RunLog

STATUS_COLORS: Mapping[str, str] = {
    "used": "green",
    "late": "orange",
    "lost": "red",
    "rejected": "pink",
    "out of range": "gray",
    "not sent": "agent5",
}
AP_COLORS = ("agent3", "agent0", "agent2")
STAGE_NAMES: Mapping[str, str] = {
    "sense": "agent: read or cast the sensors",
    "encode": "agent: run the network",
    "pack": "agent: encode the message",
    "link": "link (simulated)",
    "unpack": "fusion node: read and check the messages",
    "fuse": "fusion node: warp, fuse, run the heads",
    "decode": "fusion node: decode the boxes",
}


@dataclass(frozen=True)
class KeyNumber:
    """A number of the headline: the formatted value, and what it counts."""

    value: str
    label: str


@dataclass(frozen=True)
class ApRow:
    """Average precision at one IoU threshold over the whole run, with the counts behind it; formatted where it may be missing.

    `alone` is AP of the ego alone in the same ticks, `ready` AP at the instants at which the results are ready.
    """

    iou_threshold: float
    ap: str
    alone: str
    ready: str
    recall: str
    true_positives: int
    false_positives: int


@dataclass(frozen=True)
class BarPart:
    """A coloured part of a horizontal bar; all numbers are percent of the bar's width.

    Attributes:
        start: left edge of the part.
        width: its width.
        color: key of `COLORS`.
    """

    start: float
    width: float
    color: str


@dataclass(frozen=True)
class OverTime:
    """Charts over the ticks: AP of all ticks so far, AP of the last ticks, and boxes in each tick."""

    ap_so_far: Chart
    ap_recent: Chart
    boxes: Chart


@dataclass(frozen=True)
class MessageRow:
    """The messages of one agent.

    Attributes:
        agent_id: name of the agent.
        agent_type: its type, such as "m1".
        color: key of `COLORS`.
        sent: number of messages over its link.
        on_board: whether the agent was always the ego, whose messages cross no link.
        counts: number of messages with each status, in the order of `STATUS_COLORS`.
        held: number of ticks in which the fusion node used an older map of the agent.
        bar: share of each status.
    """

    agent_id: str
    agent_type: str
    color: str
    sent: int
    on_board: bool
    counts: tuple[int, ...]
    held: int
    bar: tuple[BarPart, ...]


@dataclass(frozen=True)
class ReasonRow:
    """Why messages of one agent were not used, and how many."""

    agent_id: str
    reason: str
    messages: int


@dataclass(frozen=True)
class Messages:
    """The section on the status of messages: one row for each agent, and the reasons for messages that were not used."""

    agents: tuple[MessageRow, ...]
    reasons: tuple[ReasonRow, ...]


@dataclass(frozen=True)
class TrafficRow:
    """What one agent sent over its link in the whole run: number of messages, mean size of one, and sum."""

    agent_id: str
    agent_type: str
    color: str
    messages: int
    mean_kb: float
    total_mb: float


@dataclass(frozen=True)
class Traffic:
    """The section on bytes: a chart over the ticks, and one row for each agent that sent a message."""

    chart: Chart
    agents: tuple[TrafficRow, ...]


@dataclass(frozen=True)
class StageRow:
    """Times of one stage.

    Attributes:
        name: who does what in the stage.
        percentiles_ms: in the order of `Latency.percentiles`.
        bar: the largest percentile, as a share of the longest stage's.
    """

    name: str
    percentiles_ms: tuple[float, ...]
    bar: tuple[BarPart, ...]


@dataclass(frozen=True)
class Latency:
    """The section on times: the names of the percentiles, such as "p95", and one row for each stage."""

    percentiles: tuple[str, ...]
    stages: tuple[StageRow, ...]


@dataclass(frozen=True)
class FaultLane:
    """The faults of one agent or of the fusion node over the run: red while it was down, green where it came back."""

    owner: str
    bar: tuple[BarPart, ...]


@dataclass(frozen=True)
class FaultRow:
    """A fault or a recovery: the tick's number, its simulated time, the agent or fusion node, the kind, and the kind's colour."""

    tick: int
    time_s: float
    owner: str
    kind: str
    color: str


@dataclass(frozen=True)
class Faults:
    """The section on faults: one lane for each agent or node that had any, and all faults in order."""

    lanes: tuple[FaultLane, ...]
    rows: tuple[FaultRow, ...]


def headline(log: RunLog, data: ReportData) -> tuple[KeyNumber, ...]:
    """Return the numbers that sum up the run."""
    result, counts = log.score.results(), log.counts
    found, objects = sum(row.found for row in data.rows), result.ground_truths
    names, kind = log.score.class_names, "vehicles" if len(log.score.class_names) == 1 else "objects"
    used = f"{100 * counts.used / counts.sent:.0f} %" if counts.sent else "none"
    return (
        *(KeyNumber(ap_text(ap), f"{'AP' if len(names) == 1 else 'mean AP'}@{iou:g}") for iou, ap in result.ap.items()),
        *(KeyNumber(ap_text(part.ap[0.5]), f"AP@0.5, {names[number]}") for number, part in result.by_class.items()),
        KeyNumber(f"{100 * found / objects:.0f} %" if objects else NOT_AVAILABLE, f"of {objects} {kind} found, IoU 0.5"),
        *_hidden_numbers(log),
        KeyNumber(used, f"of {counts.sent} messages used"),
        KeyNumber(format_bytes(counts.bytes), "over links"),
        KeyNumber(str(sum(log.faults.values())), "faults and recoveries"),
    )


def _hidden_numbers(log: RunLog) -> tuple[KeyNumber, ...]:
    """Return how many of the vehicles that are hidden from the ego were found; nothing if there were none."""
    hidden, alone = log.score.hidden, log.score.hidden_alone
    if not hidden.objects:
        return ()
    by_ego = f"; by the ego alone {100 * alone.value:.0f} %" if alone.objects else ""
    return (KeyNumber(f"{100 * hidden.value:.0f} %", f"of {hidden.objects} vehicles hidden from the ego found, IoU 0.5{by_ego}"),)


def ap_rows(log: RunLog) -> tuple[ApRow, ...]:
    """Return average precision at every IoU threshold."""
    result, alone, ready = log.score.results(), log.score.alone.results(), log.ready.results()
    return tuple(
        ApRow(
            iou_threshold=curve.iou_threshold,
            ap=ap_text(result.ap[curve.iou_threshold]),
            alone=ap_text(alone.ap[curve.iou_threshold]),
            ready=ap_text(ready.ap[curve.iou_threshold]),
            recall=ap_text(curve.true_positives / result.ground_truths if result.ground_truths else None),
            true_positives=curve.true_positives,
            false_positives=curve.false_positives,
        )
        for curve in result.curves
    )


def guard_line(log: RunLog) -> str:
    """Return what became of the boxes that the ego alone is sure of, in one line; empty if no tick had the ego's map."""
    sums = log.score.guard
    if not sums.ticks:
        return ""
    blamed = ", ".join(f"{agent_id} in {count} ticks" for agent_id, count in sorted(sums.blamed.items())) or "no sender"
    return (
        f"Confident boxes of the ego alone: {sums.confident}; the fusion did not find {sums.lost} of them again; "
        f"a guard put back {sums.put_back} and left out {blamed}."
    )


def over_time(data: ReportData) -> OverTime:
    """Draw AP and boxes over the ticks; the recent AP covers a tenth of the run, but at least 10 ticks."""
    window = min(len(data.rows), max(10, len(data.rows) // 10))
    detections, labelled, found = data.counts()
    series = [
        Series("detections", "orange", detections),
        Series("labelled", "gray", labelled),
        Series("labelled and found, IoU 0.5", "green", found),
    ]
    frame = Frame("Boxes in each tick", float(max(detections.max(), labelled.max())))
    return OverTime(
        ap_so_far=_ap_chart("AP of all ticks so far", data, None),
        ap_recent=_ap_chart(f"AP of the last {window} ticks", data, window),
        boxes=line_chart(frame, data.ticks, series),
    )


def _ap_chart(title: str, data: ReportData, window: int | None) -> Chart:
    """Draw AP at every IoU threshold, each over the `window` ticks before, or over all of them."""
    curves = data.ap_over_time(window)
    series = [Series(f"AP@{iou:g}", color, curve) for iou, color, curve in zip(IOU_THRESHOLDS, AP_COLORS, curves, strict=True)]
    return line_chart(Frame(title, 1.0, width_pt=HALF_WIDTH_PT), data.ticks, series)


def messages(data: ReportData) -> Messages:
    """Count the messages of every agent by status and by reason."""
    agents = data.agents()
    reasons = [ReasonRow(agent.agent_id, reason, count) for agent in agents for reason, count in agent.reasons.most_common()]
    return Messages(tuple(_message_row(agent, agent_color(i)) for i, agent in enumerate(agents)), tuple(reasons))


def _message_row(agent: AgentRow, color: str) -> MessageRow:
    """Count the messages of one agent by status."""
    counts = _by_status(agent.counts)
    expected = sum(counts.values())
    return MessageRow(
        agent_id=agent.agent_id,
        agent_type=agent.agent_type,
        color=color,
        sent=agent.counts.sent,
        on_board=not expected,
        counts=tuple(counts.values()),
        held=agent.held,
        bar=_bar([(STATUS_COLORS[status], count / max(expected, 1)) for status, count in counts.items()]),
    )


def _by_status(counts: MessageCounts) -> dict[str, int]:
    return {status: getattr(counts, status.replace(" ", "_")) for status in STATUS_COLORS}


def _bar(shares: Sequence[tuple[str, float]]) -> tuple[BarPart, ...]:
    """Return parts side by side from (colour, share from 0 to 1); parts without width are left out."""
    starts = np.cumsum([0.0, *(share for _, share in shares)])
    pairs = zip(starts[:-1], shares, strict=True)
    return tuple(BarPart(100 * float(start), 100 * share, color) for start, (color, share) in pairs if share > 0)


def traffic(data: ReportData) -> Traffic | None:
    """Return the bytes of every agent; None if no message crossed a link."""
    agents = [(agent, agent_color(i)) for i, agent in enumerate(data.agents()) if agent.counts.sent]
    if not agents:
        return None
    sent = [data.bytes_of(agent.agent_id) for agent, _ in agents]
    largest = float(np.nansum(sent, axis=0).max())
    unit, divisor = ("MB", 1e6) if largest > 2e6 else ("kB", 1e3)
    series = [Series(agent.agent_id, color, each / divisor) for (agent, color), each in zip(agents, sent, strict=True)]
    chart = stacked_chart(Frame(f"{unit} in each tick", largest / divisor, unit), data.ticks, series)
    return Traffic(chart, tuple(_traffic_row(agent, color) for agent, color in agents))


def _traffic_row(agent: AgentRow, color: str) -> TrafficRow:
    """Sum up the bytes of one agent."""
    counts = agent.counts
    return TrafficRow(agent.agent_id, agent.agent_type, color, counts.sent, counts.bytes_per_message / 1e3, counts.bytes / 1e6)


def latency(log: RunLog) -> Latency:
    """Return the percentiles of the time of every stage that has run."""
    percentiles = log.latency_ms()
    longest = max((max(stage.values()) for stage in percentiles.values()), default=0.0)
    stages = [
        StageRow(STAGE_NAMES[stage], tuple(values.values()), _bar([("accent", max(values.values()) / max(longest, 1e-9))]))
        for stage, values in percentiles.items()
    ]
    return Latency(tuple(next(iter(percentiles.values()), {})), tuple(stages))


def faults(data: ReportData) -> Faults:
    """Return all faults and recoveries in order, and by agent or node."""
    happened = [(position, row, fault) for position, row in enumerate(data.rows) for fault in row.faults]
    owners = dict.fromkeys(fault.owner for _, _, fault in happened)
    lanes = [
        FaultLane(owner, _down_times([(i, fault) for i, _, fault in happened if fault.owner == owner], len(data.rows)))
        for owner in owners
    ]
    rows = [
        FaultRow(row.tick, row.timestamp_ns / 1e9, fault.owner, fault.kind, "green" if fault.is_recovery else "red")
        for _, row, fault in happened
    ]
    return Faults(tuple(lanes), tuple(rows))


def _down_times(happened: Sequence[tuple[int, Fault]], ticks: int) -> tuple[BarPart, ...]:
    """Return when an agent or node was down, from each fault to the next recovery, and recoveries without a fault.

    Args:
        happened: (position of the tick in the run, fault or recovery), in order.
        ticks: number of ticks of the run.
    """
    spans: list[tuple[int, int, str]] = []
    down_since: int | None = None
    for position, fault in happened:
        if not fault.is_recovery:
            down_since = position if down_since is None else down_since
        elif down_since is not None:
            spans.append((down_since, max(position, down_since + 1), "red"))
            down_since = None
        else:
            spans.append((position, position + 1, "green"))
    if down_since is not None:
        spans.append((down_since, ticks, "red"))
    return tuple(BarPart(100 * start / ticks, 100 * (end - start) / ticks, color) for start, end, color in spans)
