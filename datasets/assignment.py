"""The agent types of a data set's agents: HEAL's assignment files, and a source whose agents have the assigned types."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from heal.agent_types import in_turn, select_agents
from heal.atomic_write import write_text
from heal.datasets.dataset import DatasetError
from heal.datasets.files import read_json
from heal.errors import UserError
from heal.seeding import keyed_generator
from heal.types import AgentFrame, ObjectLabels, SceneOutline, SceneSource, SensorChoice


@dataclass(frozen=True)
class Assignment:
    """An agent type for every agent of every scenario.

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


class AssignedSource:
    """A source whose agents have types: the sensor data of an agent are those of its type, and the ego can be of certain types.

    Args:
        source: the source of the scenes; open it for more agents than `max_agents` if a later agent may become the ego.
        assignment: the type of every agent. The scenario is the part of a scene's id before the slash.
        choices: the sensor data of each type.
        ego_types: types that the ego may have; by default the source's ego stays the ego.
        max_agents: the largest number of agents, the ego included; by default all of the source's.
    """

    def __init__(
        self,
        source: SceneSource,
        assignment: Assignment,
        choices: Mapping[str, SensorChoice],
        ego_types: Collection[str] = (),
        max_agents: int | None = None,
    ) -> None:
        """Wrap a source; nothing is read yet."""
        self.source, self.assignment, self.choices = source, assignment, choices
        self.ego_types, self.max_agents = ego_types, max_agents

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.source)

    def outline(self, index: int) -> SceneOutline:
        """Return the outline of scene `index` with the selected agents, the ego first."""
        outline = self.source.outline(index)
        types = self.types_of(outline)
        chosen = select_agents(outline.ego_first, types, self.ego_types, self.max_agents or len(types))
        if chosen[0] == outline.ego_id:
            return replace(outline, agent_ids=chosen)
        ego = self.source.agent_frame(index, chosen[0], SensorChoice(lidar=False))
        return replace(outline, ego_id=chosen[0], agent_ids=chosen, world_SE3_ego=ego.world_SE3_agent)

    def types_of(self, outline: SceneOutline) -> dict[str, str]:
        """Return the type of every agent of a scene; ValueError for a scenario or an agent without an assignment."""
        scenario = _scenario_of(outline)
        return {agent_id: self.assignment.type_of(scenario, agent_id) for agent_id in outline.agent_ids}

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """Read an agent's frame; without a choice, the sensor data of its type."""
        return self.source.agent_frame(index, agent_id, choice or self._choice_of(index, agent_id))

    def scene_objects(self, index: int) -> ObjectLabels | None:
        """Return the source's labels of scene `index` as a whole."""
        return self.source.scene_objects(index)

    def _choice_of(self, index: int, agent_id: str) -> SensorChoice:
        kind = self.assignment.type_of(_scenario_of(self.source.outline(index)), agent_id)
        if kind not in self.choices:
            raise UserError(f"agent {agent_id} is of type {kind!r}; sensor choices are known for {', '.join(self.choices)}")
        return self.choices[kind]


def _scenario_of(outline: SceneOutline) -> str:
    return outline.scene_id.split("/")[0]
