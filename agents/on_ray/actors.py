"""The plain classes of a run as Ray actors. Messages go from one to the other through the object store, not through the driver."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import ray
import torch

from heal.agents.agent import AgentHost, AgentKit, Errand
from heal.agents.fusion.host import NodeHost
from heal.agents.on_ray.cluster import DIED_ERRORS
from heal.agents.options import RunOptions
from heal.agents.process import keep_freed_memory
from heal.agents.records import LOST_WITH_MACHINE, Arrival, FusionOutcome, FusionRequest, Rejection, Sender
from heal.base_model import BaseModel

# Where cores are scarce the fusion node goes first, by so many steps of niceness: agents work ahead of it, and if it had to share
# evenly with them, they would be done early and leave it alone on one core with the others idle.
AGENTS_YIELD = 4


class AgentActor:
    """Hosts agents of one type in a process of its own."""

    def __init__(self, kit: AgentKit) -> None:
        """Take the equipment, which Ray has fetched from the object store."""
        _settle_in(kit.options.threads)
        os.nice(AGENTS_YIELD)
        self._host = AgentHost(kit, _own_device())

    def ready(self) -> None:
        """Answers once the actor has been made."""

    def hang(self) -> None:
        """Never answers again, for trials of what a run makes of that."""
        while True:
            time.sleep(3600)

    def step(self, tick: int, errands: Sequence[Errand]) -> list[Any]:
        """The agents' tick: for each of them its message, and its report.

        The message is an array, which Ray hands on without copying, unlike `bytes`.
        """
        stepped = self._host.step(tick, errands)
        return [part for message, report in stepped for part in (np.frombuffer(message, np.uint8), report)]


class NodeActor:
    """Hosts the fusion node, or those of several regions."""

    def __init__(self, base: BaseModel, base_hash: str, options: RunOptions, fetch_s: float) -> None:
        """Take the base, which Ray has fetched from the object store; a message that cannot be fetched within `fetch_s` is lost."""
        _settle_in(options.threads)
        self._fetch_s = fetch_s
        self._host = NodeHost(base, base_hash, options, _own_device())

    def ready(self) -> None:
        """Answers once the actor has been made."""

    def hang(self) -> None:
        """Never answers again, for trials of what a run makes of that."""
        while True:
            time.sleep(3600)

    def step(
        self,
        requests: Sequence[FusionRequest],
        wanted: Sequence[Sequence[Sender]],
        senders: Sequence[Sender],
        messages: Sequence[Any],
    ) -> list[FusionOutcome]:
        """One tick.

        The messages come as references inside of a list: as arguments of their own, one that was lost with its machine would keep
        the whole call from being made.

        Args:
            requests: one for each region.
            wanted: whose messages each of them is to read, and of which tick.
            senders: of all messages that any of them is to read.
            messages: references to those.
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


def _settle_in(threads: int) -> None:
    """What every process that computes begins with."""
    torch.set_num_threads(threads)
    keep_freed_memory()


def _own_device() -> str:
    """The GPU that Ray has given this actor, else the CPU."""
    return "cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu"
