"""Everything in this process, one agent after the other: for evaluation, for debugging, and to compare RayRuntime with."""

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
from heal.agents.tick import Missing, Stepped, TickBook, TickPlan, arrivals_of
from heal.types import SceneSource


class LocalRuntime:
    """A run without Ray; see `heal.agents.runtime.Runtime`. While it is open, torch computes with `options.threads` threads."""

    def __init__(
        self,
        alliance: AllianceLike,
        source: SceneSource,
        types_of: TypesOf,
        network: Network | None = None,
        options: RunOptions | None = None,
    ) -> None:
        """Take the networks of an alliance to the scenes of a source; arguments as in `heal.agents.runtime.open_runtime`."""
        self._options = options or RunOptions()
        self._book: TickBook[bytes] = TickBook(alliance, source, types_of, network or PerfectNetwork(), self._options)
        self._nodes = NodeHost(alliance.base, alliance.base_hash, self._options)
        self._hosts: dict[str, AgentHost] = {}
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(self._options.threads)

    def run(self, ticks: Iterable[int]) -> Iterator[TickResult]:
        """The results of the ticks, one by one."""
        for tick in ticks:
            plan = self._book.plan(tick)
            delivery = self._book.deliver(plan, self._steps(plan))
            outcomes = self._nodes.step([(task.request, arrivals_of(task.arrived)) for task in delivery.tasks])
            yield self._book.settle(plan, delivery, outcomes)

    def _steps(self, plan: TickPlan) -> list[Stepped[bytes] | Missing]:
        """What the agents do, one after the other; by the wall clock, those later in the row are done later."""
        began, steps = monotonic(), []
        for agent_id, agent_type in plan.agent_types.items():
            [(message, report)] = self._host(agent_type).step(plan.tick, [plan.errand(agent_id)])
            steps.append(Stepped(report, message, (monotonic() - began) * 1e3 if self._options.realtime else 0.0))
        return list(steps)

    def _host(self, agent_type: str) -> AgentHost:
        if agent_type not in self._hosts:
            self._hosts[agent_type] = AgentHost(self._book.kit(agent_type))
        return self._hosts[agent_type]

    def close(self) -> None:
        """Give torch its threads back."""
        torch.set_num_threads(self._threads_before)

    def __enter__(self) -> LocalRuntime:
        """The runtime itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close it."""
        self.close()
