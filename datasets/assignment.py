"""Which agent of which scenario has which agent type: HEAL's assignment files, and a source that goes by them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from heal.agent_types import select_agents
from heal.datasets.dataset import DatasetError
from heal.datasets.files import read_json
from heal.seeding import keyed_generator
from heal.types import AgentFrame, ObjectLabels, SceneOutline, SceneSource, SensorChoice


@dataclass(frozen=True)
class Assignment:
    """An agent type for every agent of every scenario.

    Attributes:
        types: scenario -> agent -> type, in the order of the file.
        origin: where it comes from, for messages.
    """

    types: Mapping[str, Mapping[str, str]]
    origin: str = "assignment"

    def of_scenario(self, scenario: str) -> Mapping[str, str]:
        """The types of a scenario's agents; ValueError naming what there is."""
        if scenario not in self.types:
            known = ", ".join(list(self.types)[:5])
            raise ValueError(f"{self.origin}: no scenario {scenario!r} among its {len(self.types)}, such as {known}")
        return self.types[scenario]

    def type_of(self, scenario: str, agent_id: str) -> str:
        """The type of an agent; ValueError naming what there is."""
        types = self.of_scenario(scenario)
        if agent_id not in types:
            raise ValueError(f"{self.origin}: scenario {scenario} has no agent {agent_id!r}, there are {', '.join(types)}")
        return types[agent_id]

    def mapped(self, mapping: Mapping[str, str]) -> Assignment:
        """Every type replaced by what `mapping` says, where it says something."""
        types = {name: {agent: mapping.get(kind, kind) for agent, kind in agents.items()} for name, agents in self.types.items()}
        return Assignment(types, self.origin)

    @staticmethod
    def in_order(scenario_agents: Mapping[str, Sequence[str]], types: Sequence[str]) -> Assignment:
        """The agents of a scenario, in the order in which a source names them, get the types one after the other, over and over."""
        return Assignment(
            {
                scenario: {agent: types[i % len(types)] for i, agent in enumerate(agents)}
                for scenario, agents in sorted(scenario_agents.items())
            }
        )

    @staticmethod
    def at_random(scenario_agents: Mapping[str, Sequence[str]], types: Sequence[str], seed: int) -> Assignment:
        """Every agent gets one of the types, evenly; it depends on seed and scenario alone, not on what else there is."""
        return Assignment({scenario: _drawn(agents, types, seed, scenario) for scenario, agents in sorted(scenario_agents.items())})


def _drawn(agents: Sequence[str], types: Sequence[str], seed: int, scenario: str) -> dict[str, str]:
    rng = keyed_generator(seed, "agent types", scenario)
    return {agent: types[int(i)] for agent, i in zip(agents, rng.integers(len(types), size=len(agents)), strict=True)}


def read_assignment(path: Path) -> Assignment:
    """Read {scenario: {agent: type}}; DatasetError naming the file and the first entry that is anything else."""
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
    """Write what `read_assignment` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(assignment.types, indent=4) + "\n", encoding="utf-8")


class AssignedSource:
    """A source whose agents have types: every agent senses what its type wants, and the ego can be one of certain types.

    Args:
        source: where the scenes come from; open it for more agents than `max_agents` if the ego may be one of the later ones.
        assignment: the type of every agent. The scenario is what stands before the stroke in a scene's id.
        choices: what each type wants of its agents.
        ego_types: types that the ego may have; by default the ego is the source's.
        max_agents: at most so many agents, the ego included; by default all of the source's.
    """

    def __init__(
        self,
        source: SceneSource,
        assignment: Assignment,
        choices: Mapping[str, SensorChoice],
        ego_types: Collection[str] = (),
        max_agents: int | None = None,
    ) -> None:
        """Read nothing yet."""
        self.source, self.assignment, self.choices = source, assignment, choices
        self.ego_types, self.max_agents = ego_types, max_agents

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self.source)

    def outline(self, index: int) -> SceneOutline:
        """Who takes part; the ego comes first."""
        outline = self.source.outline(index)
        types = self.types_of(outline)
        chosen = select_agents(outline.ego_first, types, self.ego_types, self.max_agents or len(types))
        if chosen[0] == outline.ego_id:
            return replace(outline, agent_ids=chosen)
        ego = self.source.agent_frame(index, chosen[0], SensorChoice(lidar=False))
        return replace(outline, ego_id=chosen[0], agent_ids=chosen, world_SE3_ego=ego.world_SE3_agent)

    def types_of(self, outline: SceneOutline) -> dict[str, str]:
        """The type of every agent of a scene; ValueError for a scenario or agent that is not in the assignment."""
        scenario = _scenario(outline)
        return {agent_id: self.assignment.type_of(scenario, agent_id) for agent_id in outline.agent_ids}

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """What an agent senses; without a choice what its type wants."""
        return self.source.agent_frame(index, agent_id, choice or self._choice(index, agent_id))

    def scene_objects(self, index: int) -> ObjectLabels | None:
        """The source's."""
        return self.source.scene_objects(index)

    def _choice(self, index: int, agent_id: str) -> SensorChoice:
        kind = self.assignment.type_of(_scenario(self.source.outline(index)), agent_id)
        if kind not in self.choices:
            raise ValueError(f"agent {agent_id} is a {kind!r}; it is known what {', '.join(self.choices)} want to sense")
        return self.choices[kind]


def _scenario(outline: SceneOutline) -> str:
    return outline.scene_id.split("/")[0]
