"""A run in this process, one agent after the other: for evaluation, for debugging, and as the reference of RayRuntime."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import monotonic
from types import TracebackType

import torch

from heal.agent_types import TypesOf
from heal.agents.agent import AgentHost
from heal.agents.failures import FAILED, AgentFailure, step_each
from heal.agents.fusion.host import NodeHost, trust_by_type
from heal.agents.interfaces import AllianceLike
from heal.agents.network.network import Network, PerfectNetwork
from heal.agents.options import RunOptions
from heal.agents.records import AgentReport, Arrival, TickResult
from heal.agents.tick import TickCoordinator, arrivals_of
from heal.agents.tick_plan import AgentStep, Missing, TickPlan
from heal.types import SceneSource


class LocalRuntime:
    """Runs ticks without Ray (see `heal.agents.runtime.Runtime`). While it is open, torch has `options.threads` threads."""

    def __init__(
        self,
        alliance: AllianceLike,
        source: SceneSource,
        types_of: TypesOf,
        network: Network | None = None,
        options: RunOptions | None = None,
        tolerant: bool = False,
    ) -> None:
        """Open a run.

        Args:
            alliance: this and the next four as for `heal.agents.runtime.open_runtime`.
            source: see there.
            types_of: see there.
            network: see there.
            options: see there.
            tolerant: whether an agent's error is a fault of that agent, as in a run on Ray. Otherwise the error ends the run, which
                is what evaluations need: with a message less, they would measure something else.
        """
        self._options, self._tolerant = options or RunOptions(), tolerant
        self._coordinator: TickCoordinator[bytes] = TickCoordinator(
            alliance, source, types_of, network or PerfectNetwork(), self._options, tolerant
        )
        trust, compressors = trust_by_type(alliance), tuple(alliance.compressors.values())
        self._nodes = NodeHost(alliance.base, alliance.base_hash, self._options, trust=trust, compressors=compressors)
        self._hosts: dict[str, AgentHost] = {}
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(self._options.threads)

    def run(self, ticks: Iterable[int]) -> Iterator[TickResult]:
        """Return the results of the ticks, one by one."""
        for tick in self._coordinator.due(ticks):
            plan = self._coordinator.plan(tick)
            if plan.number == 0 and self._options.realtime:
                plan = self._make_ready(plan)
            delivery = self._coordinator.deliver(plan, self._steps(plan))
            outcomes = self._nodes.step([(task.request, arrivals_of(task.arrived)) for task in delivery.tasks])
            asides = [aside for host in self._hosts.values() for aside in host.asides(tick)]
            yield self._coordinator.settle(plan, delivery, outcomes, asides)

    def _make_ready(self, plan: TickPlan) -> TickPlan:
        """Run the networks once before the clock starts; the failures of agents are noted when their tick is run.

        Returns:
            The plan of the first tick, which begins now.
        """
        steps = [step for step in self._steps(plan) if isinstance(step, AgentStep)]
        arrivals = [Arrival(step.report.agent_id, step.payload, plan.tick) for step in steps]
        self._nodes.warm(plan.request(plan.outline.world_SE3_ego), arrivals)
        return self._coordinator.start_clock(plan)

    def _steps(self, plan: TickPlan) -> list[AgentStep[bytes] | Missing]:
        """Let the agents step one after the other; by the wall clock the later agents finish later."""
        began, steps, pacer = monotonic(), list[AgentStep[bytes] | Missing](), self._coordinator.pacer
        for agent_id in plan.agent_types:
            stepped = self._step(plan, agent_id)
            if isinstance(stepped, AgentFailure):
                steps.append(Missing(FAILED, failure=stepped))
            else:
                message, report = stepped
                steps.append(AgentStep(report, message, pacer.data_ms(monotonic() - began) if pacer else 0.0))
        return steps

    def _step(self, plan: TickPlan, agent_id: str) -> tuple[bytes, AgentReport] | AgentFailure:
        host, requests = self._host(plan.agent_types[agent_id]), [plan.agent_request(agent_id)]
        if self._tolerant:
            return step_each(host, plan.tick, requests)[0]
        return host.step(plan.tick, requests)[0]

    def _host(self, agent_type: str) -> AgentHost:
        if agent_type not in self._hosts:
            self._hosts[agent_type] = AgentHost(self._coordinator.agent_setup(agent_type))
        return self._hosts[agent_type]

    def close(self) -> None:
        """Restore the number of torch's threads."""
        torch.set_num_threads(self._threads_before)

    def __enter__(self) -> LocalRuntime:
        """Return the runtime."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the runtime."""
        self.close()
