"""A run in this process, one agent after the other: for evaluation, for debugging, and as the reference of RayRuntime."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from time import monotonic
from types import TracebackType
from typing import TypeAlias

import torch
from typing_extensions import Self

from heal.agent_types import TypesOf
from heal.agents.agent import AgentHost
from heal.agents.door.gateway import Gateway
from heal.agents.door.options import DoorOptions
from heal.agents.failures import FAILED, AgentFailure, step_each
from heal.agents.fusion.host import NodeHost, require_base
from heal.agents.fusion.knowledge import NodeKnowledge
from heal.agents.fusion.sender_check import allowed_senders
from heal.agents.interfaces import AllianceLike
from heal.agents.network.network import Network, PerfectNetwork
from heal.agents.options import RunOptions
from heal.agents.records import Arrival, TickResult
from heal.agents.tick import TickCoordinator, arrivals_of
from heal.agents.tick_plan import AgentStep, Missing, TickPlan
from heal.device import set_float32_products
from heal.errors import UserError
from heal.types import SceneSource

_Job: TypeAlias = tuple[int, str]
"""One agent in one tick: the number of the tick's plan, and the agent's id."""


class InThisProcess:
    """A run in this process: while it is open, torch has `options.threads` threads and multiplies as its precision says."""

    def __init__(self, options: RunOptions) -> None:
        """Set torch up for a run with these options."""
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(options.threads)
        self._products_before = set_float32_products(options.float32_products)

    def close(self) -> None:
        """Restore the number of torch's threads, and how it multiplies."""
        torch.set_num_threads(self._threads_before)
        set_float32_products(self._products_before)

    def __enter__(self) -> Self:
        """Return the runtime."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the runtime."""
        self.close()


class LocalRuntime(InThisProcess):
    """Runs ticks without Ray (see `heal.agents.runtime.Runtime`). While it is open, torch has `options.threads` threads."""

    def __init__(
        self,
        alliance: AllianceLike,
        source: SceneSource,
        types_of: TypesOf,
        network: Network | None = None,
        options: RunOptions | None = None,
        tolerant: bool = False,
        device: torch.device | str = "cpu",
        batch: int = 1,
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
            device: on which all networks compute.
            batch: number of ticks whose agents are encoded together, one batch for each agent type; with 1, agents are encoded one
                by one. Fusion goes tick by tick in any case.

        Raises:
            UserError: several ticks are to be encoded together in a run in which a tick depends on how the tick before went, or
                several agents would be fused by a single-agent detector; or the run's allow list cannot be read.
        """
        self._options, self._tolerant, self._batch = options or RunOptions(), tolerant, batch
        _check_batch(batch, self._options)
        require_base(alliance.base, self._options)
        settings = network or PerfectNetwork(), self._options, tolerant
        self._coordinator: TickCoordinator[bytes] = TickCoordinator(alliance, source, types_of, *settings)
        self._device, self._hosts, self._allowed = torch.device(device), dict[str, AgentHost](), allowed_senders(self._options)
        self._nodes = NodeHost(NodeKnowledge.of(alliance, self._options, self._allowed), self._device)
        super().__init__(self._options)

    def open_door(self, options: DoorOptions) -> None:
        """Let outside agents take part, until the runtime is closed.

        Raises:
            UserError: the door cannot be opened; the runtime is closed then.
        """
        try:
            self._coordinator.open_door(Gateway(options, self._coordinator.facts, self._allowed))
        except UserError:
            self.close()
            raise

    def close(self) -> None:
        """Close the door, and restore torch's settings."""
        self._coordinator.close_door()
        super().close()

    def run(self, ticks: Iterable[int]) -> Iterator[TickResult]:
        """Return the results of the ticks, one by one."""
        due = self._coordinator.due(ticks)
        while group := list(islice(due, self._batch)):
            plans = [self._coordinator.plan(tick) for tick in group]
            if plans[0].number == 0 and self._options.realtime:
                plans = [self._make_ready(plans[0])]
            for plan, steps in zip(plans, self._steps(plans), strict=True):
                yield self._fuse(plan, steps)

    def _fuse(self, plan: TickPlan, steps: Sequence[AgentStep[bytes] | Missing]) -> TickResult:
        """Send the messages of a tick, fuse those that arrive, and return the result."""
        delivery = self._coordinator.deliver(plan, steps)
        outcomes = self._nodes.step([(task.request, arrivals_of(task.arrived)) for task in delivery.tasks])
        asides = [aside for host in self._hosts.values() for aside in host.asides(plan.tick)]
        return self._coordinator.settle(plan, delivery, outcomes, asides)

    def _make_ready(self, plan: TickPlan) -> TickPlan:
        """Run the networks once before the clock starts; the failures of agents are noted when their tick is run.

        Returns:
            The plan of the first tick, which begins now.
        """
        steps = [step for step in self._steps([plan])[0] if isinstance(step, AgentStep)]
        arrivals = [Arrival(step.report.agent_id, step.payload, plan.tick) for step in steps]
        self._nodes.warm(plan.request(plan.outline.world_SE3_ego), arrivals)
        return self._coordinator.start_clock(plan)

    def _steps(self, plans: Sequence[TickPlan]) -> list[list[AgentStep[bytes] | Missing]]:
        """Return the steps of the agents of each tick; by the wall clock the agents that step later finish later."""
        began, steps, pacer = monotonic(), dict[_Job, AgentStep[bytes] | Missing](), self._coordinator.pacer
        for agent_type, jobs in self._jobs(plans):
            host, requests = self._host(agent_type), [plans[number].agent_request(agent_id) for number, agent_id in jobs]
            for job, stepped in zip(jobs, step_each(host, requests) if self._tolerant else host.step(requests), strict=True):
                if isinstance(stepped, AgentFailure):
                    steps[job] = Missing(FAILED, failure=stepped)
                else:
                    message, report = stepped
                    steps[job] = AgentStep(report, message, pacer.data_ms(monotonic() - began) if pacer else 0.0)
        return [[steps[number, agent_id] for agent_id in plan.agent_types] for number, plan in enumerate(plans)]

    def _jobs(self, plans: Sequence[TickPlan]) -> list[tuple[str, list[_Job]]]:
        """Return what is encoded at once, in order: all agents of one type, or one agent."""
        jobs = [(kind, (number, agent_id)) for number, plan in enumerate(plans) for agent_id, kind in plan.agent_types.items()]
        if self._batch == 1:
            return [(kind, [job]) for kind, job in jobs]
        return [(name, [job for kind, job in jobs if kind == name]) for name in dict.fromkeys(kind for kind, _ in jobs)]

    def _host(self, agent_type: str) -> AgentHost:
        if agent_type not in self._hosts:
            self._hosts[agent_type] = AgentHost(self._coordinator.agent_setup(agent_type), self._device, self._batch > 1)
        return self._hosts[agent_type]


def _check_batch(batch: int, options: RunOptions) -> None:
    """Check that several ticks can be encoded together; UserError if not."""
    if batch > 1 and (options.adapt or options.realtime):
        raise UserError(f"batch={batch}: with adapt, or by the wall clock, a tick begins when the one before has been sent")
