"""Agents whose own code fails in a tick: each failure is a fault of that agent alone, and the run goes on."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NoReturn

from heal.agents.agent import AgentHost, AgentRequest
from heal.agents.faults import Fault, FaultKind
from heal.agents.records import AgentReport

FAILED: FaultKind = "agent failed"
MOST_LETTERS = 200


@dataclass(frozen=True)
class AgentFailure:
    """What an agent whose step failed returns in place of a message.

    Attributes:
        error: what its code raised; of a class that other processes can read.
        trace: where, with the whole stack.
    """

    error: Exception
    trace: str

    @staticmethod
    def of(error: Exception) -> AgentFailure:
        """Wrap an error; one that cannot be sent to another process is replaced by a RuntimeError with its text."""
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        try:
            # A copy without the frames of the stack, which hold whatever the network has computed.
            return AgentFailure(pickle.loads(pickle.dumps(error)), trace)
        except Exception:  # noqa: BLE001 - an exception class may do anything when it is copied
            return AgentFailure(RuntimeError(in_one_line(error)), trace)

    @property
    def text(self) -> str:
        """The error in one line."""
        return in_one_line(self.error)

    def raise_error(self) -> NoReturn:
        """Raise the error; its cause shows the stack."""
        raise self.error from AgentStackError(self.trace)


class AgentStackError(RuntimeError):
    """The cause of an agent's error: shows where in the agent's process the error was raised."""

    def __init__(self, trace: str) -> None:
        """Show a stack."""
        super().__init__("\n" + trace)


def in_one_line(error: Exception) -> str:
    """Return the class of an error and the first line of its text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = ": ".join([type(error).__name__, *lines[:1]])
    return text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 3] + "..."


def step_each(host: AgentHost, requests: Sequence[AgentRequest]) -> list[tuple[bytes, AgentReport] | AgentFailure]:
    """Let agents step; one that fails costs no other agent of its host a message.

    If the host encodes its agents as one batch, and that fails, each of them is then encoded alone.
    """
    if host.together and len(requests) > 1:
        try:
            return [*host.step(requests)]
        except Exception:  # noqa: BLE001 - whatever it was, the guilty agent is found below
            pass
    return [_step_alone(host, request) for request in requests]


def _step_alone(host: AgentHost, request: AgentRequest) -> tuple[bytes, AgentReport] | AgentFailure:
    try:
        return host.step([request])[0]
    except Exception as error:  # noqa: BLE001 - a fault of this agent, which is counted
        return AgentFailure.of(error)


class Failures:
    """Turns the failures of a run's agents into faults, and ends a run in which no agent works from the beginning."""

    def __init__(self) -> None:
        """Begin with agents that have neither worked nor failed."""
        self._failing: dict[str, AgentFailure] = {}
        self._any_worked = False

    def note(self, agent_id: str, failure: AgentFailure | None) -> list[Fault]:
        """Note an agent's step, which has worked if `failure` is None; return its fault or recovery, if there is one."""
        if failure is not None:
            self._failing[agent_id] = failure
            return [Fault(FAILED, agent_id, failure.text)]
        self._any_worked = True
        return [Fault("agent recovered", agent_id)] if self._failing.pop(agent_id, None) is not None else []

    def check(self, agent_ids: Collection[str]) -> None:
        """Raise the error of the first of these agents if all of them have failed, and no agent of the run has worked so far."""
        if not self._any_worked and all(agent_id in self._failing for agent_id in agent_ids):
            self._failing[next(iter(agent_ids))].raise_error()
