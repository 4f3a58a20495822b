"""The detection of one agent alone, with the networks of its type and the base of that type."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic, perf_counter

import torch

from heal.agents.agent import AgentSetup, view_of
from heal.agents.message_records import AgentLatency
from heal.agents.records import AgentAside, AgentReport
from heal.base_model import BaseModel
from heal.detection.decode import decode_candidates
from heal.detection.head import HeadOutput
from heal.fusion.interface import coverage_of
from heal.fusion.late import AgentBoxes
from heal.types import AgentFrame


@dataclass(frozen=True)
class DetectedAlone:
    """What an agent has found alone in a tick, its report, and what pictures show of it."""

    boxes: AgentBoxes
    report: AgentReport
    aside: AgentAside


class Detector:
    """Detects with the networks of one agent type and its base, one agent at a time."""

    def __init__(self, setup: AgentSetup, base: BaseModel, device: torch.device) -> None:
        """Move the networks to a device."""
        self._setup, self._base, self._device = setup, base.to(device), device
        setup.encoder.to(device)
        self._anchors = base.anchors()

    def detect(self, tick: int, agent_id: str) -> DetectedAlone:
        """Let an agent detect in a tick."""
        setup, started = self._setup, perf_counter()
        frame = setup.source.agent_frame(tick, agent_id, setup.sensor)
        sensed = perf_counter()
        head = self._heads(frame)
        encoded = perf_counter()
        boxes = AgentBoxes(*decode_candidates(head, self._anchors, self._base.config.decode), frame.world_SE3_agent_measured)
        times_ms = ((sensed - started) * 1e3, (encoded - sensed) * 1e3, (perf_counter() - encoded) * 1e3)
        report = AgentReport(
            agent_id=agent_id,
            agent_type=setup.agent_type,
            size_bytes=0,
            world_SE3_agent=frame.world_SE3_agent,
            world_SE3_agent_measured=frame.world_SE3_agent_measured,
            objects=frame.objects,
            latency=AgentLatency(*times_ms, monotonic()),
        )
        return DetectedAlone(boxes, report, self._aside(tick, frame, head))

    def _heads(self, frame: AgentFrame) -> HeadOutput:
        """Return the output of the heads for the agent's own map."""
        encoder, base = self._setup.encoder, self._base
        coverage = coverage_of(encoder.coverage, encoder.covered_blocks(frame))
        with torch.no_grad(), self._setup.options.autocast(self._device.type):
            features = encoder(encoder.prepare([frame]).to(self._device)).float().contiguous()
            own_frame = torch.eye(4, dtype=torch.float64)[None]
            fused = base.fuse(base.trunk(features), own_frame, [1], [coverage], [self._setup.agent_type])
            return base.heads(fused)

    def _aside(self, tick: int, frame: AgentFrame, head: HeadOutput) -> AgentAside:
        """Return what a picture shows of the agent: as foreground the best score of each cell."""
        options = self._setup.options
        best = head.classification.float().sigmoid().amax(dim=1, keepdim=True)
        view = view_of(frame, best) if options.keeps_views_of(tick) else None
        return AgentAside(frame.agent_id, view, self._setup.counts(tick, frame) if options.count_points else None)
