"""The plain classes of a run as Ray actors. Messages go from actor to actor through the object store, not through the driver."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from time import monotonic
from typing import Any

import numpy as np
import ray
import torch

from heal.agents.agent import AgentHost, AgentRequest, AgentSetup
from heal.agents.failures import AgentFailure, step_each
from heal.agents.fusion.host import NodeHost
from heal.agents.fusion.knowledge import NodeKnowledge
from heal.agents.on_ray.cluster import DIED_ERRORS
from heal.agents.options import RunOptions
from heal.agents.process import keep_freed_memory
from heal.agents.records import LOST_WITH_MACHINE, AgentAside, Arrival, FusionOutcome, FusionRequest, Rejection, Sender
from heal.device import choose_device, gpu_count, set_float32_products
from heal.errors import UserError
from heal.identity.allow_list import AllowedSenders

# Niceness of the agents' processes: the fusion node goes first where cores are scarce. Agents work ahead of the fusion node: with
# even shares they would finish early and leave the fusion node alone on one core, with the other cores idle.
AGENTS_YIELD = 4
# The concurrency group in which a fusion node fetches messages beside its work.
AHEAD = "ahead"
# Detail of a message that was not fetched in time, and the least time to map one that is on this machine into the process.
TOO_SLOW, COPY_S = "it was not fetched in time", 0.1


class AgentActor:
    """An actor that hosts agents of one type."""

    def __init__(self, setup: AgentSetup, device: str) -> None:
        """Make the agents' host from a setup that Ray has fetched from the object store; `device` is that of the deployment."""
        _set_up_process(setup.options)
        os.nice(AGENTS_YIELD)
        own = _own_device(device)
        self._host = AgentHost(setup, own, together=own.type == "cuda")
        with suppress(UserError, OSError):  # a scene that cannot be read is a fault of its own tick
            setup.source.outline(0)  # builds the town, which must not count as a sensor's time

    def ready(self) -> None:
        """Answer once the actor has been made, with the town that it senses."""

    def hang(self) -> None:
        """Never answer again, to try how a run deals with an actor that hangs."""
        while True:
            time.sleep(3600)

    def step(self, requests: Sequence[AgentRequest]) -> list[Any]:
        """Let agents step in a tick: return the message and the report of each, one after the other.

        A message is an array, which Ray hands on without a copy; it would copy `bytes`. Of an agent whose step fails the message is
        empty, and the `AgentFailure` comes in place of the report.
        """
        stepped = step_each(self._host, requests)
        pairs = [(b"", one) if isinstance(one, AgentFailure) else one for one in stepped]
        return [part for message, report in pairs for part in (np.frombuffer(message, np.uint8), report)]

    def asides(self, tick: int) -> list[AgentAside]:
        """Return what pictures and the evaluation want to know of the agents' step in a tick; called right after the step."""
        return self._host.asides(tick)


class NodeActor:
    """An actor that hosts the fusion node, or the fusion nodes of several regions."""

    def __init__(self, known: NodeKnowledge, allowed: AllowedSenders | None, fetch_s: float, device: str) -> None:
        """Make the fusion nodes' host.

        Args:
            known: see `FusionNode`; Ray has fetched it from the object store.
            allowed: the agents whose signed messages the node takes, which differ after a restart. A list that has changed
                meanwhile is read at the first tick.
            fetch_s: messages of a tick that cannot be fetched from the object store within this time, all together, are lost.
            device: that of the deployment.
        """
        _set_up_process(known.options)
        self._fetch_s = fetch_s
        self._host = NodeHost(replace(known, allowed=allowed), _own_device(device))

    def ready(self) -> None:
        """Answer once the actor has been made."""

    def hang(self) -> None:
        """Never answer again, to try how a run deals with an actor that hangs."""
        while True:
            time.sleep(3600)

    def fetch(self, messages: Sequence[Any]) -> None:
        """Fetch the messages of a tick to this machine while the tick before is being fused, so that `step` finds them there."""
        ray.wait(list(messages), num_returns=len(messages), timeout=self._fetch_s)

    def warm(self, request: FusionRequest, senders: Sequence[Sender], messages: Sequence[Any]) -> None:
        """Fuse messages, given as references, before the clock starts; nothing of it is kept."""
        fetched = fetch_messages(senders, messages, self._fetch_s)
        self._host.warm(request, [arrival for arrival in fetched.values() if isinstance(arrival, Arrival)])

    def step(
        self,
        requests: Sequence[FusionRequest],
        wanted: Sequence[Sequence[Sender]],
        senders: Sequence[Sender],
        messages: Sequence[Any],
    ) -> list[FusionOutcome]:
        """Fuse one tick.

        The messages come as references inside of a list. If they were arguments of their own, a message that was lost with its
        machine would keep the whole call from being made.

        Args:
            requests: one for each region.
            wanted: for each request the senders and ticks of the messages that it needs.
            senders: the senders and ticks of all messages.
            messages: references to all messages, in the order of `senders`.
        """
        fetched = fetch_messages(senders, messages, self._fetch_s)
        parts = [[fetched[sender] for sender in own] for own in wanted]
        arrivals = [[arrival for arrival in part if isinstance(arrival, Arrival)] for part in parts]
        outcomes = self._host.step(list(zip(requests, arrivals, strict=True)))
        lost = [[rejection for rejection in part if isinstance(rejection, Rejection)] for part in parts]
        return [outcome.and_rejected(rejections) for outcome, rejections in zip(outcomes, lost, strict=True)]


def fetch_messages(senders: Sequence[Sender], references: Sequence[Any], limit_s: float) -> dict[Sender, Arrival | Rejection]:
    """Fetch the messages of a tick from the object store, all at the same time.

    Args:
        senders: the sender and tick of each message.
        references: to the messages, in the same order.
        limit_s: a message that has not come after this time is lost.

    Returns:
        Every message that has come, and a rejection for every other one.
    """
    until_s = monotonic() + limit_s
    come = set(ray.wait(list(references), num_returns=len(references), timeout=limit_s)[0]) if references else set()
    fetched: dict[Sender, Arrival | Rejection] = {}
    for (agent_id, tick), reference in zip(senders, references, strict=True):
        # What has come is here, unless its machine is lost at this moment: then the time that is left must do.
        left_s = max(until_s - monotonic(), COPY_S)
        fetched[agent_id, tick] = (
            _fetch(agent_id, tick, reference, left_s) if reference in come else _lost(agent_id, tick, TOO_SLOW)
        )
    return fetched


def _fetch(agent_id: str, tick: int, reference: Any, limit_s: float) -> Arrival | Rejection:
    try:
        return Arrival(agent_id, ray.get(reference, timeout=limit_s), tick)
    except ray.exceptions.GetTimeoutError:
        return _lost(agent_id, tick, TOO_SLOW)
    except DIED_ERRORS as error:
        return _lost(agent_id, tick, type(error).__name__)


def _lost(agent_id: str, tick: int, detail: str) -> Rejection:
    return Rejection(agent_id, tick, LOST_WITH_MACHINE, detail)


def _set_up_process(options: RunOptions) -> None:
    """Set up a process that computes."""
    torch.set_num_threads(options.threads)
    set_float32_products(options.float32_products)
    keep_freed_memory()


def _own_device(name: str) -> torch.device:
    """Return the GPU that Ray has given this actor; without one the device of this name, or the CPU where there is no GPU."""
    return choose_device("auto" if ray.get_gpu_ids() else name if gpu_count() else "cpu")
