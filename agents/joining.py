"""Agents that join while a run goes on: from a tick on, with a type that may appear in the alliance as late as then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from heal.agents.faults import Fault, FaultKind
from heal.errors import UserError
from heal.option_text import count_in
from heal.types import SceneOutline

FORM = "TYPE@TICK, or TYPE@TICK:AGENT for an agent by its id, such as m5@100:-1"
NO_TYPE: FaultKind = "agent not placed"


@dataclass(frozen=True)
class Join:
    """An agent that joins.

    Attributes:
        agent_type: its type.
        tick: index of the first scene in which it takes part.
        agent_id: the agent, which takes no part before; None for the first agent of a scene that takes no part yet.
    """

    agent_type: str
    tick: int
    agent_id: str | None = None

    @staticmethod
    def parse(text: str) -> tuple[Join, ...]:
        """Read joins, separated by commas; UserError for another form than `FORM`."""
        return tuple(Join._parse_one(part.strip()) for part in text.split(",") if part.strip())

    @staticmethod
    def _parse_one(text: str) -> Join:
        agent_type, _, rest = text.partition("@")
        number, colon, agent_id = rest.partition(":")
        tick = count_in(number)
        if not agent_type or tick is None or bool(colon) != bool(agent_id):
            raise UserError(f"join {text!r}: expected {FORM}")
        return Join(agent_type, tick, agent_id or None)

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        return f"{self.agent_type}@{self.tick}" + (f":{self.agent_id}" if self.agent_id else "")


class Joining:
    """Adds the agents that have joined to those that take part."""

    def __init__(self, joins: tuple[Join, ...], limit: int | None, problem_of: Callable[[str], str]) -> None:
        """Begin a run.

        Args:
            joins: all joins of the run.
            limit: number of agents that take part without having joined, the ego first; None for all.
            problem_of: tells why an agent type cannot be used yet; "" if it can.
        """
        self._joins, self._limit, self._problem_of = sorted(joins, key=lambda join: join.tick), limit, problem_of
        self._named = {join.agent_id for join in joins}
        self._waiting: set[Join] = set()

    def taking_part(
        self, tick: int, outline: SceneOutline, assigned: Mapping[str, str], in_range: Callable[[str], bool] = lambda _: True
    ) -> tuple[dict[str, str], list[Fault]]:
        """Return the agents that take part in a tick with their types, the ego first, and what there is to report.

        Args:
            tick: index of the scene.
            outline: of the scene.
            assigned: the types of the agents that may take part without joining.
            in_range: tells whether an agent is in communication range. Agents beyond are passed over where only some can take part;
                where all can, the fusion node rejects their messages.

        Raises:
            UserError: the ego is to join.
        """
        if outline.ego_id in self._named:
            raise UserError(f"join: {outline.ego_id!r} is the ego, which takes part from the beginning; name another agent")
        there = [agent_id for agent_id in outline.ego_first if agent_id in assigned and agent_id not in self._named]
        types = {agent_id: assigned[agent_id] for agent_id in self._first(there, in_range)}
        faults: list[Fault] = []
        for join in self._joins:
            agent_id = self._agent_of(join, outline, types) if tick >= join.tick else None
            if agent_id is not None and self._can_join(join, agent_id, faults):
                types[agent_id] = join.agent_type
        return {agent_id: types[agent_id] for agent_id in outline.ego_first if agent_id in types}, faults

    def _first(self, agent_ids: Sequence[str], in_range: Callable[[str], bool]) -> Sequence[str]:
        """Return the agents that take part without having joined, the ego first; no range is asked for where all of them can."""
        if self._limit is None or len(agent_ids) <= self._limit:
            return agent_ids
        ego_id, *others = agent_ids
        return [ego_id, *islice(filter(in_range, others), self._limit - 1)]

    def _agent_of(self, join: Join, outline: SceneOutline, types: Mapping[str, str]) -> str | None:
        """Return the agent of a join in a scene; None if there is none."""
        if join.agent_id is not None:
            return join.agent_id if join.agent_id in outline.agent_ids else None
        free = (agent_id for agent_id in outline.ego_first if agent_id not in types and agent_id not in self._named)
        return next(free, None)

    def _can_join(self, join: Join, agent_id: str, faults: list[Fault]) -> bool:
        """Return whether the type of a join can be used; the wait for it and its end are reported once each."""
        problem = self._problem_of(join.agent_type)
        if problem and join not in self._waiting:
            self._waiting.add(join)
            faults.append(Fault(NO_TYPE, agent_id, problem))
        elif not problem and join in self._waiting:
            self._waiting.remove(join)
            faults.append(Fault("agent rejoined", agent_id))
        return not problem


def require_joins(joins: tuple[Join, ...], outline: SceneOutline, assigned: Mapping[str, str], limit: int | None) -> None:
    """Check joins against the first scene of a run.

    Raises:
        UserError: an agent is not in the scene or is the ego, or no agent is left that could join.
    """
    unknown = [join for join in joins if join.agent_id is not None and join.agent_id not in outline.agent_ids]
    if unknown:
        there = ", ".join(outline.ego_first[1:]) or "no other agents than the ego"
        raise UserError(f"join {unknown[0]}: no such agent; there are {there}")
    joining = Joining(joins, limit, lambda _: "")
    last = max((join.tick for join in joins), default=0)
    before, after = (joining.taking_part(tick, outline, assigned)[0] for tick in (-1, last))
    free = len(after) - len(before)
    if free < len(joins):
        raise UserError(
            f"join {', '.join(map(str, joins))}: only {free} agents of the first scene take no part yet; "
            f"let fewer take part from the beginning (--agents), or name an agent: {FORM}"
        )
