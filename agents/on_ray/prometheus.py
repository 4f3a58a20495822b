"""Metrics of a run for Prometheus: counted with Ray's metrics, and served by Ray on the driver's machine."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from heal.agents.message_records import MessageRecord
from heal.agents.records import AGENT_STAGES, NODE_STAGES, TickResult

# Upper edges of the buckets that times are counted in, milliseconds.
BUCKETS_MS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)


class RunMetrics:
    """Counts the results of all ticks. Ray puts `ray_` before the names of the metrics.

    | name | kind | tags |
    |---|---|---|
    | heal_ticks_total | counter | |
    | heal_messages_total | counter | agent_type, status: as in `MessageStatus`; the ego's own messages are not counted |
    | heal_message_bytes_total | counter | agent_type |
    | heal_rejections_total | counter | reason |
    | heal_turned_away_total | counter | reason: of what came through the run's door |
    | heal_held_maps_total | counter | agent_type |
    | heal_faults_total | counter | kind: as in `FaultKind` |
    | heal_link_latency_ms | histogram | agent_type |
    | heal_stage_latency_ms | histogram | stage |
    | heal_detections, heal_labelled, heal_agents, heal_tick_lag_ms | gauge | |

    Ray passes on how many values of a histogram lie in each bucket: quantiles are exact to a bucket, and sums are of the middles of
    the buckets.
    """

    def __init__(self) -> None:
        """Declare all metrics. Ray must be running."""
        from ray.util.metrics import Counter, Gauge, Histogram

        def counter(name: str, description: str, *tags: str) -> Any:
            return Counter(name, description, tag_keys=tags)

        def histogram(name: str, description: str, tag: str) -> Any:
            return Histogram(name, description, boundaries=list(BUCKETS_MS), tag_keys=(tag,))

        self._ticks = counter("heal_ticks_total", "Ticks that have been fused.")
        self._messages = counter("heal_messages_total", "What became of messages over links.", "agent_type", "status")
        self._bytes = counter("heal_message_bytes_total", "Bytes sent over links.", "agent_type")
        self._rejections = counter("heal_rejections_total", "Messages that a fusion node rejected.", "reason")
        self._turned_away = counter("heal_turned_away_total", "Byte strings that the run's door turned away.", "reason")
        self._held = counter("heal_held_maps_total", "Older maps that were fused in place of late or lost ones.", "agent_type")
        self._faults = counter("heal_faults_total", "Processes that broke or returned.", "kind")
        self._link_ms = histogram("heal_link_latency_ms", "Simulated time on the link.", "agent_type")
        self._stage_ms = histogram("heal_stage_latency_ms", "Computing time of a stage.", "stage")
        self._detections = Gauge("heal_detections", "Boxes found in the last tick.")
        self._labelled = Gauge("heal_labelled", "Labelled vehicles in the last tick.")
        self._agents = Gauge("heal_agents", "Agents that took part in the last tick.")
        self._lag_ms = Gauge("heal_tick_lag_ms", "How late the last tick began by the wall clock.")

    def add(self, result: TickResult) -> None:
        """Count the result of a tick."""
        self._ticks.inc(1)
        self._detections.set(len(result.detections))
        self._labelled.set(len(result.ground_truth))
        self._agents.set(len(result.messages))
        self._lag_ms.set(result.lag_ms)
        self._add_stages(NODE_STAGES, result.latency)
        for record in result.messages:
            self._add_message(record)
        types = {record.agent_id: record.agent_type for record in result.messages}
        for held in result.held:
            self._held.inc(1, {"agent_type": types.get(held.agent_id, "unknown")})
        for rejection in result.late_rejections:
            self._rejections.inc(1, {"reason": rejection.reason})
        for reason, count in result.turned_away.items():
            self._turned_away.inc(count, {"reason": reason})
        for fault in result.faults:
            self._faults.inc(1, {"kind": fault.kind})

    def _add_message(self, record: MessageRecord) -> None:
        self._add_stages(AGENT_STAGES, record.latency)
        if record.status == "rejected":
            self._rejections.inc(1, {"reason": record.reason})
        if record.own:
            return
        sender = {"agent_type": record.agent_type}
        self._messages.inc(1, {**sender, "status": record.status})
        if record.size_bytes:
            self._bytes.inc(record.size_bytes, sender)
        if record.link_ms is not None:
            self._link_ms.observe(record.link_ms, sender)

    def _add_stages(self, stages: Iterable[str], latency: object | None) -> None:
        """Observe the times of stages, which are the fields `STAGE_ms` of `latency`; None for an actor that did not answer."""
        for stage in stages if latency is not None else ():
            self._stage_ms.observe(getattr(latency, f"{stage}_ms"), {"stage": stage})


def metrics_address() -> str | None:
    """Return the address that Prometheus reads the metrics from; None if Ray is not running, or if it serves no metrics."""
    # Ray is not imported here for this question alone: that takes a second.
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    here = ray.get_runtime_context().get_node_id()
    for node in ray.nodes():
        if node["NodeID"] == here and node.get("MetricsExportPort"):
            return f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    return None
