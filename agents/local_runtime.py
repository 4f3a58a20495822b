"""A run in this process, one agent after the other: for evaluation, for debugging, and as the reference of RayRuntime."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import monotonic
from types import TracebackType

import torch

from heal.agent_types import TypesOf
from heal.agents.agent import AgentHost
from heal.agents.fusion.host import NodeHost
from heal.agents.interfaces import AllianceLike
from heal.agents.network.network import Network, PerfectNetwork
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.agents.tick import AgentStep, Missing, TickCoordinator, TickPlan, arrivals_of
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
    ) -> None:
        """Open a run; the arguments are those of `heal.agents.runtime.open_runtime`."""
        self._options = options or RunOptions()
        self._coordinator: TickCoordinator[bytes] = TickCoordinator(
            alliance, source, types_of, network or PerfectNetwork(), self._options
        )
        self._nodes = NodeHost(alliance.base, alliance.base_hash, self._options)
        self._hosts: dict[str, AgentHost] = {}
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(self._options.threads)

    def run(self, ticks: Iterable[int]) -> Iterator[TickResult]:
        """Return the results of the ticks, one by one."""
        for tick in ticks:
            plan = self._coordinator.plan(tick)
            delivery = self._coordinator.deliver(plan, self._steps(plan))
            outcomes = self._nodes.step([(task.request, arrivals_of(task.arrived)) for task in delivery.tasks])
            yield self._coordinator.settle(plan, delivery, outcomes)

    def _steps(self, plan: TickPlan) -> list[AgentStep[bytes] | Missing]:
        """Let the agents step one after the other; by the wall clock the later agents finish later."""
        began, steps = monotonic(), []
        for agent_id, agent_type in plan.agent_types.items():
            [(message, report)] = self._host(agent_type).step(plan.tick, [plan.agent_request(agent_id)])
            steps.append(AgentStep(report, message, (monotonic() - began) * 1e3 if self._options.realtime else 0.0))
        return list(steps)

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
