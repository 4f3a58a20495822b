"""A run with late fusion, in this process: every agent detects alone, and the boxes of all are joined around the ego."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from time import monotonic, perf_counter
from typing import Protocol, runtime_checkable

import torch

from heal.agent_types import TypesOf, in_range
from heal.agents.agent import AgentSetup
from heal.agents.fusion.node import BLIND
from heal.agents.interfaces import AllianceLike
from heal.agents.late_fusion.detector import Detector
from heal.agents.local_runtime import InThisProcess, LocalRuntime
from heal.agents.message_records import MessageRecord
from heal.agents.network.network import PerfectNetwork
from heal.agents.options import RunOptions
from heal.agents.records import (
    OUT_OF_RANGE,
    FusionOutcome,
    FusionRequest,
    NodeLatency,
    Rejection,
    TickResult,
)
from heal.agents.tick import TickCoordinator
from heal.agents.tick_plan import AgentStep, TickPlan
from heal.base_model import BaseModel
from heal.detection.decode import DecodeConfig
from heal.detection.detections import Detections
from heal.fusion.late import AgentBoxes, join_boxes
from heal.types import SceneSource


@runtime_checkable
class LateAllianceLike(AllianceLike, Protocol):
    """Agent types that detect alone, each with the base that it belongs to."""

    def base_of(self, name: str, /) -> BaseModel:
        """Return the base of one type."""
        ...


class LateRuntime(InThisProcess):
    """Runs ticks with late fusion; while it is open, torch has `options.threads` threads.

    Agents, ground truth and results are those of `heal.agents.local_runtime.LocalRuntime`. Boxes are not written into messages, so
    messages have no size.
    """

    def __init__(
        self,
        alliance: LateAllianceLike,
        source: SceneSource,
        types_of: TypesOf,
        options: RunOptions | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Open a run.

        Args:
            alliance: the networks; boxes count on its grid, and their thresholds are those of the ego's base.
            source: the scenes.
            types_of: the agents of a scene and their types.
            options: those that concern feature maps, links and the guard have no effect.
            device: on which the networks compute.
        """
        self._alliance, self._source, self._options = alliance, source, options or RunOptions()
        self._coordinator: TickCoordinator[AgentBoxes] = TickCoordinator(
            alliance, source, types_of, PerfectNetwork(), self._options
        )
        self._device, self._detectors = torch.device(device), dict[str, Detector]()
        super().__init__(self._options)

    def run(self, ticks: Iterable[int]) -> Iterator[TickResult]:
        """Return the results of the ticks, one by one."""
        for tick in ticks:
            plan = self._coordinator.plan(tick)
            found = [self._detector(agent_type).detect(tick, name) for name, agent_type in plan.agent_types.items()]
            delivery = self._coordinator.deliver(plan, [AgentStep(one.report, one.boxes) for one in found])
            outcome = self._join(plan, delivery.request, delivery.arrived)
            yield self._coordinator.settle(plan, delivery, [outcome], [one.aside for one in found])

    def _detector(self, agent_type: str) -> Detector:
        if agent_type not in self._detectors:
            setup = AgentSetup.of(self._alliance, agent_type, self._source, self._options)
            self._detectors[agent_type] = Detector(setup, self._alliance.base_of(agent_type), self._device)
        return self._detectors[agent_type]

    def _join(self, plan: TickPlan, request: FusionRequest, arrived: Sequence[tuple[MessageRecord, AgentBoxes]]) -> FusionOutcome:
        """Join the boxes of the agents in range of the ego; of a blind ego, those of the others alone."""
        began_s, started = monotonic(), perf_counter()
        config = self._alliance.base_of(plan.agent_types[request.ego_id]).config.decode
        rejected = [found for record, boxes in arrived if (found := self._rejection(request, record.agent_id, boxes))]
        unused = {rejection.agent_id for rejection in rejected}
        used = {record.agent_id: boxes for record, boxes in arrived if record.agent_id not in unused}
        own = [boxes for record, boxes in arrived if record.own]
        detections, alone = (self._joined(parts, request, config) for parts in (list(used.values()), own))
        latency = NodeLatency(0.0, 0.0, (perf_counter() - started) * 1e3, began_s)
        return FusionOutcome(request.tick, detections, tuple(used), (), tuple(rejected), latency, alone)

    def _joined(self, parts: Sequence[AgentBoxes], request: FusionRequest, config: DecodeConfig) -> Detections:
        return join_boxes(parts, request.world_SE3_frame, config, self._alliance.grid.range_m)

    def _rejection(self, request: FusionRequest, agent_id: str, boxes: AgentBoxes) -> Rejection | None:
        """Return why the boxes of an agent are not used; None if they are."""
        if agent_id == request.ego_id:
            return Rejection(agent_id, request.tick, BLIND, "") if self._options.blind_ego else None
        near = in_range(request.world_SE3_frame, boxes.world_SE3_agent, self._options.comm_range_m)
        return None if near else Rejection(agent_id, request.tick, OUT_OF_RANGE, "")


def open_local(
    alliance: AllianceLike,
    source: SceneSource,
    types_of: TypesOf,
    options: RunOptions | None = None,
    device: torch.device | str = "cpu",
    batch: int = 1,
) -> LocalRuntime | LateRuntime:
    """Open a run in this process, with late fusion if the agent types of the alliance detect alone.

    In late fusion the agents detect one by one, whatever `batch` is; the other arguments are as for both runtimes.
    """
    if isinstance(alliance, LateAllianceLike):
        return LateRuntime(alliance, source, types_of, options, device)
    return LocalRuntime(alliance, source, types_of, options=options, device=device, batch=batch)
