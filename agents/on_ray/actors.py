"""The plain classes of a run as Ray actors. Messages go from actor to actor through the object store, not through the driver."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import ray
import torch

from heal.agents.agent import AgentHost, AgentRequest, AgentSetup
from heal.agents.fusion.host import NodeHost
from heal.agents.on_ray.cluster import DIED_ERRORS
from heal.agents.options import RunOptions
from heal.agents.process import keep_freed_memory
from heal.agents.records import LOST_WITH_MACHINE, Arrival, FusionOutcome, FusionRequest, Rejection, Sender
from heal.base_model import BaseModel

# Niceness of the agents' processes: the fusion node goes first where cores are scarce. Agents work ahead of the fusion node: with
# even shares they would finish early and leave the fusion node alone on one core, with the other cores idle.
AGENTS_YIELD = 4


class AgentActor:
    """An actor that hosts agents of one type."""

    def __init__(self, setup: AgentSetup) -> None:
        """Make the agents' host from a setup that Ray has fetched from the object store."""
        _set_up_process(setup.options.threads)
        os.nice(AGENTS_YIELD)
        self._host = AgentHost(setup, _own_device())

    def ready(self) -> None:
        """Answer once the actor has been made."""

    def hang(self) -> None:
        """Never answer again, to try how a run deals with an actor that hangs."""
        while True:
            time.sleep(3600)

    def step(self, tick: int, requests: Sequence[AgentRequest]) -> list[Any]:
        """Let agents step in a tick: return the message and the report of each, one after the other.

        A message is an array, which Ray hands on without a copy; it would copy `bytes`.
        """
        stepped = self._host.step(tick, requests)
        return [part for message, report in stepped for part in (np.frombuffer(message, np.uint8), report)]


class NodeActor:
    """An actor that hosts the fusion node, or the fusion nodes of several regions."""

    def __init__(self, base: BaseModel, base_hash: str, options: RunOptions, fetch_s: float) -> None:
        """Make the fusion nodes' host.

        Args:
            base: the network, which Ray has fetched from the object store.
            base_hash: its content hash.
            options: of the run.
            fetch_s: a message that cannot be fetched from the object store within this time is lost.
        """
        _set_up_process(options.threads)
        self._fetch_s = fetch_s
        self._host = NodeHost(base, base_hash, options, _own_device())

    def ready(self) -> None:
        """Answer once the actor has been made."""

    def hang(self) -> None:
        """Never answer again, to try how a run deals with an actor that hangs."""
        while True:
            time.sleep(3600)

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
        fetched = {sender: self._fetch(*sender, reference) for sender, reference in zip(senders, messages, strict=True)}
        parts = [[fetched[sender] for sender in own] for own in wanted]
        arrivals = [[arrival for arrival in part if isinstance(arrival, Arrival)] for part in parts]
        outcomes = self._host.step(list(zip(requests, arrivals, strict=True)))
        lost = [[rejection for rejection in part if isinstance(rejection, Rejection)] for part in parts]
        return [outcome.and_rejected(rejections) for outcome, rejections in zip(outcomes, lost, strict=True)]

    def _fetch(self, agent_id: str, tick: int, reference: Any) -> Arrival | Rejection:
        try:
            return Arrival(agent_id, ray.get(reference, timeout=self._fetch_s), tick)
        except (*DIED_ERRORS, ray.exceptions.GetTimeoutError) as error:
            return Rejection(agent_id, tick, LOST_WITH_MACHINE, type(error).__name__)


def _set_up_process(threads: int) -> None:
    """Set up a process that computes."""
    torch.set_num_threads(threads)
    keep_freed_memory()


def _own_device() -> str:
    """Return "cuda" if Ray has given this actor a GPU, else "cpu"."""
    return "cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu"
