"""Everything in this process, one agent after the other: for evaluation, for debugging, and to compare RayRuntime with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType

import torch

from heal.agents.agent import AgentHost
from heal.agents.fusion_node import FusionNode
from heal.agents.link import LinkFactory, PerfectLink
from heal.agents.records import Arrival, RunOptions, TickResult
from heal.agents.tick import AllianceLike, TickBook
from heal.agents.types_of import TypesOf
from heal.types import SceneSource


def perfect_links(agent_id: str) -> PerfectLink:
    """Links on which everything arrives at once."""
    return PerfectLink()


class LocalRuntime:
    """A run without Ray; see `heal.agents.runtime.Runtime`. While it is open, torch computes with `options.threads` threads."""

    def __init__(
        self,
        alliance: AllianceLike,
        source: SceneSource,
        types_of: TypesOf,
        links: LinkFactory = perfect_links,
        options: RunOptions | None = None,
    ) -> None:
        """Take the networks of an alliance to the scenes of a source; arguments as in `heal.agents.runtime.open_runtime`."""
        options = options or RunOptions()
        self._book = TickBook(alliance, source, types_of, links, options)
        self._node = FusionNode(alliance.base, alliance.base_hash, options)
        self._hosts: dict[str, AgentHost] = {}
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(options.threads)

    def run(self, ticks: Iterable[int]) -> Iterator[TickResult]:
        """The results of the ticks, one by one."""
        for tick in ticks:
            yield self._tick(tick)

    def _tick(self, tick: int) -> TickResult:
        plan = self._book.plan(tick)
        stepped = [self._host(agent_type).step(agent_id, tick) for agent_id, agent_type in plan.agent_types.items()]
        reports = [report for _, report in stepped]
        records = self._book.deliver(plan, reports)
        arrivals = [
            Arrival(record.agent_id, message, record.arrival_ns)
            for record, (message, _) in zip(records, stepped, strict=True)
            if record.status == "used" and record.arrival_ns is not None
        ]
        return self._book.settle(plan, reports, records, self._node.step(plan.request, arrivals))

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
