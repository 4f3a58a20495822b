"""The parts of a report: how well the run did, what it sent, how long things took, what became of messages, what broke."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from heal.agents.records import Fault
from heal.metrics import IOU_THRESHOLDS, ApResult
from heal.tools.bev import color_number, format_bytes
from heal.tools.fault_words import is_recovery, owner_of
from heal.tools.report_charts import Scale, Series, bar, legend, line_chart, stacked_chart
from heal.tools.report_history import AgentRow, ReportData
from heal.tools.report_html import Markup, element, join, section, table
from heal.tools.run_log import RunLog

STATUS_COLORS: Mapping[str, str] = {
    "used": "var(--used)",
    "late": "var(--late)",
    "lost": "var(--lost)",
    "rejected": "var(--rejected)",
    "out of range": "var(--apart)",
}
AP_COLORS = ("var(--a3)", "var(--a0)", "var(--a2)")
STAGE_WORDS: Mapping[str, str] = {
    "sense": "agent: read or cast its sensors",
    "encode": "agent: its network",
    "pack": "agent: the message's bytes",
    "link": "link (simulated)",
    "unpack": "fusion node: read and check messages",
    "fuse": "fusion node: warp, fuse, heads",
    "decode": "fusion node: boxes",
}


def agent_color(place: int) -> str:
    """The colour of the agent seen at this place, as in the pictures."""
    return f"var(--a{color_number(place)})"


def headline(title: str, log: RunLog, data: ReportData) -> Markup:
    """The title, and the run in some numbers."""
    result, counts = log.score.results(), log.counts
    found = sum(row.found for row in data.rows)
    tiles = [(f"{ap:.3f}", f"AP@{iou:g}") for iou, ap in result.ap.items()]
    tiles += [
        (f"{100 * found / max(result.ground_truths, 1):.0f} %", f"of {result.ground_truths} vehicles found, IoU 0.5"),
        (f"{100 * counts.used / counts.sent:.0f} %" if counts.sent else "none", f"of {counts.sent} messages used"),
        (format_bytes(counts.bytes), "over links"),
        (str(sum(log.faults.values())), "faults and recoveries"),
    ]
    words = f"{result.frames} ticks, up to {log.score.agents} agents, {result.detections} detections"
    boxes = [element("div", element("b", value), element("span", name), class_="tile") for value, name in tiles]
    head = element("header", element("h1", title), element("p", words, class_="lead"))
    return join([head, element("div", *boxes, class_="tiles"), ap_table(result)])


def ap_table(result: ApResult) -> Markup:
    """Average precision with what it is made of."""
    rows = [
        (
            f"{curve.iou_threshold:g}",
            f"{curve.ap:.3f}",
            f"{curve.true_positives / max(result.ground_truths, 1):.3f}",
            str(curve.true_positives),
            str(curve.false_positives),
        )
        for curve in result.curves
    ]
    head = ("IoU at least", "AP", "recall", "right", "wrong")
    return section("Detection", "Average precision over the whole run.", table(head, rows))


def accuracy(data: ReportData) -> Markup:
    """AP and boxes over time."""
    window = min(len(data.rows), max(10, len(data.rows) // 10))
    curves = [
        _titled(title, line_chart(data.ticks, _ap_series(data, span), Scale(1.0, 0.25)))
        for title, span in (("AP of all ticks so far", None), (f"AP of the last {window} ticks", window))
    ]
    detections, labelled, found = data.counts()
    boxes = [
        Series("detections", "var(--late)", detections),
        Series("labelled", "var(--apart)", labelled),
        Series("labelled and found, IoU 0.5", "var(--found)", found),
    ]
    chart = line_chart(data.ticks, boxes, Scale.up_to(max(detections.max(), labelled.max())))
    pair = element("div", *curves, class_="pair")
    return section("Over time", "How AP developed, and what was found of what is there.", pair, _titled("boxes in a tick", chart))


def _ap_series(data: ReportData, window: int | None) -> list[Series]:
    curves = data.ap_over_time(window)
    return [Series(f"AP@{iou:g}", color, curve) for iou, color, curve in zip(IOU_THRESHOLDS, AP_COLORS, curves, strict=True)]


def _titled(title: str, chart: Markup) -> Markup:
    return element("div", element("h3", title), chart)


def traffic(data: ReportData) -> Markup:
    """Bytes over time and by agent."""
    agents = [agent for agent in data.agents() if agent.counts.sent]
    if not agents:
        return section("Traffic", "Nothing crossed a link.")
    colors = {agent_id: agent_color(place) for place, agent_id in enumerate(data.agent_ids)}
    sent = [data.bytes_of(agent.agent_id) for agent in agents]
    largest = float(np.nansum(sent, axis=0).max())
    unit, divisor = ("MB", 1e6) if largest > 2e6 else ("kB", 1e3)
    series = [Series(agent.agent_id, colors[agent.agent_id], each / divisor) for agent, each in zip(agents, sent, strict=True)]
    rows = [
        (
            _who(agent.agent_id, colors[agent.agent_id]),
            agent.agent_type,
            str(agent.counts.sent),
            f"{agent.counts.bytes / agent.counts.sent / 1e3:.1f}",
            f"{agent.counts.bytes / 1e6:.2f}",
        )
        for agent in agents
    ]
    chart = _titled(f"{unit} in a tick", stacked_chart(data.ticks, series, Scale.up_to(largest / divisor, unit)))
    by_agent = table(("agent", "type", "messages", "kB each", "MB in all"), rows, numbers_from=2)
    return section("Traffic", "What was sent over links; the ego's own message crosses none.", chart, by_agent)


def latencies(log: RunLog) -> Markup:
    """How long every stage takes."""
    percentiles = log.latency_ms()
    longest = max((max(stage.values()) for stage in percentiles.values()), default=1.0)
    rows = [
        (
            STAGE_WORDS.get(stage, stage),
            *(f"{value:.1f}" for value in of_stage.values()),
            bar([("var(--accent)", list(of_stage.values())[-1] / max(longest, 1e-9))]),
        )
        for stage, of_stage in percentiles.items()
    ]
    names = next(iter(percentiles.values()), {})
    head = ("stage", *(f"{name}, ms" for name in names), "")
    words = "Percentiles over all agents and ticks; the bars show the last one. Only the link's times are simulated."
    return section("Latency", words, table(head, rows))


def messages(data: ReportData) -> Markup:
    """What became of each agent's messages."""
    agents = data.agents()
    rows = [_message_row(agent, agent_color(place)) for place, agent in enumerate(agents)]
    head = ("agent", "type", "sent", *STATUS_COLORS, "map held", "")
    key = legend([Series(status, color, np.zeros(0)) for status, color in STATUS_COLORS.items()])
    reasons = [(agent.agent_id, reason, str(count)) for agent in agents for reason, count in agent.reasons.most_common()]
    why = [element("h3", "why"), table(("agent", "reason", "messages"), reasons, numbers_from=2)] if reasons else []
    words = "What became of each message in its own tick; map held: ticks in which an older map of the agent stood in."
    return section("Messages", words, key, table(head, rows, numbers_from=2), *why)


def _message_row(agent: AgentRow, color: str) -> tuple[str, ...]:
    counts = agent.counts
    by_status = {
        "used": counts.used,
        "late": counts.late,
        "lost": counts.lost,
        "rejected": counts.rejected,
        "out of range": counts.out_of_range,
    }
    name = _who(agent.agent_id, color)
    if not counts.sent:
        return name, agent.agent_type, "on board", *("" for _ in by_status), "", ""
    shares = bar([(STATUS_COLORS[status], count / counts.sent) for status, count in by_status.items()])
    return name, agent.agent_type, str(counts.sent), *map(str, by_status.values()), str(agent.held), shares


def faults(data: ReportData) -> Markup:
    """What broke and what came back: on a time line, and as a list."""
    happened = [(place, row, fault) for place, row in enumerate(data.rows) for fault in row.faults]
    if not happened:
        return section("Faults", "Nothing broke.")
    lanes: list[Markup] = []
    for owner in dict.fromkeys(owner_of(fault) for _, _, fault in happened):
        marks = [(place, fault) for place, _, fault in happened if owner_of(fault) == owner]
        lanes += [element("span", owner), _lane(marks, len(data.rows))]
    rows = [
        (str(row.tick), f"{row.timestamp_ns / 1e9:.1f}", owner_of(fault), join([_dot(fault_color(fault)), fault.kind]))
        for _, row, fault in happened
    ]
    words = "Red from when something broke to when it was back."
    return section(
        "Faults", words, element("div", *lanes, class_="lanes"), table(("tick", "time, s", "who", "what"), rows, numbers_from=9)
    )


def _lane(marks: list[tuple[int, Fault]], ticks: int) -> Markup:
    """One owner's faults from the first tick to the last: away from a fault to the next recovery."""
    spans, broken = [], None
    for place, fault in marks:
        if not is_recovery(fault):
            broken = place if broken is None else broken
        elif broken is not None:
            spans.append((broken, max(place, broken + 1), "var(--lost)"))
            broken = None
        else:
            spans.append((place, place + 1, "var(--used)"))
    if broken is not None:
        spans.append((broken, ticks, "var(--lost)"))
    parts = [
        element("i", style=f"left:{100 * start / ticks:.2f}%;width:{100 * (end - start) / ticks:.2f}%;background:{color}")
        for start, end, color in spans
    ]
    return element("div", *parts, class_="lane")


def fault_color(fault: Fault) -> str:
    """Green for what came back, red for what broke."""
    return "var(--used)" if is_recovery(fault) else "var(--lost)"


def _who(agent_id: str, color: str) -> Markup:
    return element("span", _dot(color), agent_id, class_="who")


def _dot(color: str) -> Markup:
    return element("i", class_="dot", style=f"background:{color}")
