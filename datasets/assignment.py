"""The agent types of a data set's agents: HEAL's assignment files, and a source whose egos have certain types."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from heal.agent_types import TypesOf, in_turn, select_agents
from heal.atomic_write import write_text
from heal.datasets.dataset import DatasetError
from heal.datasets.files import read_json
from heal.errors import UserError
from heal.seeding import keyed_generator
from heal.types import AgentFrame, ObjectLabels, SceneOutline, SceneSource, SensorChoice


@dataclass(frozen=True)
class Assignment:
    """An agent type for every agent of every scenario, whatever agents a scene has and whichever is its ego.

    Attributes:
        types: scenario -> agent -> type, in the order of the file.
        origin: the file that was read, for error messages.
    """

    types: Mapping[str, Mapping[str, str]]
    origin: str = "assignment"

    def of_scenario(self, scenario: str) -> Mapping[str, str]:
        """Return the types of a scenario's agents; ValueError for an unknown scenario."""
        if scenario not in self.types:
            known = ", ".join(list(self.types)[:5])
            raise UserError(f"{self.origin}: no scenario {scenario!r} among its {len(self.types)}, such as {known}")
        return self.types[scenario]

    def type_of(self, scenario: str, agent_id: str) -> str:
        """Return the type of an agent; ValueError for an unknown scenario or agent."""
        types = self.of_scenario(scenario)
        if agent_id not in types:
            raise UserError(f"{self.origin}: scenario {scenario} has no agent {agent_id!r}, there are {', '.join(types)}")
        return types[agent_id]

    def types_of(self, outline: SceneOutline) -> dict[str, str]:
        """Return the types of a scene's agents, in the order of the file.

        Raises:
            UserError: the scene's scenario or one of its agents is not in the file.
        """
        scenario = scenario_of(outline)
        types = {agent_id: self.type_of(scenario, agent_id) for agent_id in outline.agent_ids}
        return {agent_id: types[agent_id] for agent_id in self.of_scenario(scenario) if agent_id in types}

    def mapped(self, mapping: Mapping[str, str]) -> Assignment:
        """Replace the types that are keys of `mapping`; keep the others."""
        types = {name: {agent: mapping.get(kind, kind) for agent, kind in agents.items()} for name, agents in self.types.items()}
        return Assignment(types, self.origin)

    @staticmethod
    def in_order(scenario_agents: Mapping[str, Sequence[str]], types: Sequence[str]) -> Assignment:
        """Assign the types in turn to the agents of each scenario, in the source's order; after the last type the first follows."""
        return Assignment({scenario: in_turn(agents, types) for scenario, agents in sorted(scenario_agents.items())})

    @staticmethod
    def at_random(scenario_agents: Mapping[str, Sequence[str]], types: Sequence[str], seed: int) -> Assignment:
        """Draw a type for every agent, all types with equal chances; a scenario's types depend on seed and scenario alone."""
        return Assignment(
            {scenario: _draw_scenario_types(agents, types, seed, scenario) for scenario, agents in sorted(scenario_agents.items())}
        )


def _draw_scenario_types(agents: Sequence[str], types: Sequence[str], seed: int, scenario: str) -> dict[str, str]:
    rng = keyed_generator(seed, "agent types", scenario)
    return {agent: types[int(i)] for agent, i in zip(agents, rng.integers(len(types), size=len(agents)), strict=True)}


def read_assignment(path: Path) -> Assignment:
    """Read a JSON file {scenario: {agent: type}}.

    Raises:
        DatasetError: naming the file and the first entry in another form.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise DatasetError(path, f"expected {{scenario: {{agent: type}}}}, got {type(values).__name__}")
    for scenario, agents in values.items():
        if not isinstance(agents, dict):
            raise DatasetError(path, f"{scenario}: expected {{agent: type}}, got {type(agents).__name__}")
        for agent, kind in agents.items():
            if not isinstance(kind, str) or not kind:
                raise DatasetError(path, f"{scenario}/{agent}: expected the name of an agent type, got {kind!r}")
    return Assignment(values, str(path))


def write_assignment(path: Path, assignment: Assignment) -> None:
    """Write a JSON file for `read_assignment`, whole; make its folder if needed."""
    write_text(path, json.dumps(assignment.types, indent=4) + "\n")


class EgoSource:
    """A source in whose scenes an agent of certain types is the ego; `select_agents` has the rule.

    Args:
        source: the source of the scenes; open it for more agents than `max_agents`, because a later agent may become the ego.
        types_of: the types of a scene's agents, in the order of the assignment; they must not depend on the ego.
        ego_types: types that the ego may have.
        max_agents: the largest number of agents, the ego included; None for all.
    """

    def __init__(self, source: SceneSource, types_of: TypesOf, ego_types: Collection[str], max_agents: int | None = None) -> None:
        """Wrap a source; nothing is read yet."""
        self.source, self.types_of, self.ego_types, self.max_agents = source, types_of, tuple(ego_types), max_agents

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.source)

    def outline(self, index: int) -> SceneOutline:
        """Return the outline of scene `index` with the chosen agents, the ego first."""
        outline = self.source.outline(index)
        chosen = self._chosen(outline)
        if chosen.ego_id == outline.ego_id:
            return chosen
        ego = self.source.agent_frame(index, chosen.ego_id, SensorChoice(lidar=False))
        return replace(chosen, world_SE3_ego=ego.world_SE3_agent)

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """Read an agent's frame."""
        return self.source.agent_frame(index, agent_id, choice)

    def scene_objects(self, index: int) -> ObjectLabels | None:
        """Return the source's labels of scene `index` as a whole, if all of its agents are among the chosen ones."""
        outline = self.source.outline(index)
        complete = outline.labelled_as_whole or len(self._chosen(outline).agent_ids) == len(outline.agent_ids)
        return self.source.scene_objects(index) if complete else None

    def _chosen(self, outline: SceneOutline) -> SceneOutline:
        return with_ego(outline, self.types_of(outline), self.ego_types, self.max_agents)


def with_ego(
    outline: SceneOutline, types: Mapping[str, str], ego_types: Collection[str], max_agents: int | None = None
) -> SceneOutline:
    """Return an outline with the agents that `select_agents` chooses, the ego first; its pose stays that of the former ego."""
    agent_ids = select_agents(outline.ego_first, types, ego_types, max_agents)
    return replace(outline, ego_id=agent_ids[0], agent_ids=agent_ids)


def scenario_of(outline: SceneOutline) -> str:
    """Return the scenario of a scene: the part of its id before the slash."""
    return outline.scene_id.split("/")[0]
