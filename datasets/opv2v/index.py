"""List the scenarios of an OPV2V split and the frames of each agent from the folder tree: no file is opened."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from heal.datasets.dataset import DatasetError, Skipped

AGENT_NAME = re.compile(r"-?\d+")
METADATA_NAME = re.compile(r"(\d+)\.(?:yaml|json)")
VISIBILITY_SUFFIX = "_bev_visibility.png"
# (scenario, frame) whose metadata is broken in the released data set.
BROKEN_FRAMES = frozenset({("2021_08_20_21_10_24", "000265")})


@dataclass(frozen=True)
class Scenario:
    """A recording: its agents, and the stamps of their frames.

    Attributes:
        name: the name of its folder.
        agent_ids: the agents in use, the ego first.
        stamps: agent -> the stamps of its frames.
        unused: agents beyond the limit, in order.
        has_maps: whether the cameras' visibility maps lie beside the metadata.
    """

    name: str
    agent_ids: tuple[str, ...]
    stamps: dict[str, frozenset[str]]
    unused: tuple[str, ...] = ()
    has_maps: bool = False

    @property
    def ego_id(self) -> str:
        """The agent in whose LiDAR frame the scenes are fused."""
        return self.agent_ids[0]

    @property
    def ego_stamps(self) -> list[str]:
        """The stamps of the ego's frames in order of time: each is a scene."""
        return sorted(self.stamps[self.ego_id], key=int)

    def agents_at(self, stamp: str) -> tuple[str, ...]:
        """Return the agents with a frame of this stamp, the ego first."""
        return tuple(agent_id for agent_id in self.agent_ids if stamp in self.stamps[agent_id])


def list_scenarios(folder: Path) -> tuple[list[Scenario], Skipped]:
    """List the scenarios of a split.

    Args:
        folder: the split's folder.

    Returns:
        The scenarios in the order of their names, and the folders and frames that are skipped.

    Raises:
        DatasetError: the folder is missing; the message names the existing splits.
    """
    if not folder.is_dir():
        existing = sorted(path.name for path in folder.parent.iterdir() if path.is_dir()) if folder.parent.is_dir() else []
        raise DatasetError(folder, f"no such split; {folder.parent} holds {', '.join(existing) or 'nothing'}")
    scenarios: list[Scenario] = []
    skipped: Skipped = []
    for path in sorted(folder.iterdir()):
        scenario = _list_scenario(path, skipped) if path.is_dir() else None
        if scenario is not None:
            scenarios.append(scenario)
    return scenarios, skipped


def with_ego(scenarios: list[Scenario], ego_id: str | None, max_agents: int) -> tuple[list[Scenario], Skipped]:
    """Put the ego first in every scenario and keep at most `max_agents` agents.

    Args:
        scenarios: the scenarios of a split.
        ego_id: the ego; None for the first agent of each scenario.
        max_agents: the largest number of agents, the ego included.

    Returns:
        The scenarios with the ego, and everything that is left out: scenarios without the ego, agents beyond the limit, frames
        without the ego.
    """
    chosen: list[Scenario] = []
    skipped: Skipped = []
    for scenario in scenarios:
        agent_ids = scenario.agent_ids
        if ego_id is not None and ego_id not in agent_ids:
            skipped.append((scenario.name, f"no agent {ego_id} to be the ego"))
            continue
        order = agent_ids if ego_id is None else (ego_id, *(agent_id for agent_id in agent_ids if agent_id != ego_id))
        chosen.append(replace(scenario, agent_ids=order[:max_agents], unused=order[max_agents:]))
        skipped.extend(_left_out(chosen[-1]))
    return chosen, skipped


def agent_order(names: list[str]) -> list[str]:
    """Sort agents by their names as strings, roadside units (negative numbers) after all vehicles."""
    return sorted(names, key=lambda name: (name.startswith("-"), name))


def _list_scenario(folder: Path, skipped: Skipped) -> Scenario | None:
    """List a scenario and append everything unusable to `skipped`; None for a folder without any frame."""
    stamps: dict[str, frozenset[str]] = {}
    has_maps = False
    for path in folder.iterdir():
        if not path.is_dir():
            continue
        if not AGENT_NAME.fullmatch(path.name):
            skipped.append((f"{folder.name}/{path.name}", "not an agent: its name is no number"))
            continue
        names = [file.name for file in path.iterdir()]
        has_maps = has_maps or any(name.endswith(VISIBILITY_SUFFIX) for name in names)
        found = _usable_stamps(path, names, skipped)
        if found:
            stamps[path.name] = found
        else:
            skipped.append((f"{folder.name}/{path.name}", "no metadata (.yaml) in it"))
    if not stamps:
        skipped.append((folder.name, "no agent with a frame in it"))
        return None
    return Scenario(folder.name, tuple(agent_order(list(stamps))), stamps, has_maps=has_maps)


def _usable_stamps(folder: Path, names: list[str], skipped: Skipped) -> frozenset[str]:
    """Return the stamps of the metadata among the file names of an agent's folder; append broken frames to `skipped`."""
    matches = [METADATA_NAME.fullmatch(name) for name in names]
    stamps = {match.group(1) for match in matches if match}
    broken = {stamp for stamp in stamps if (folder.parent.name, stamp) in BROKEN_FRAMES}
    skipped.extend((f"{folder.parent.name}/{folder.name}/{stamp}", "known to be broken") for stamp in sorted(broken))
    return frozenset(stamps - broken)


def _left_out(scenario: Scenario) -> Skipped:
    """Return the agents beyond the limit, and the frames that not both the ego and another agent have."""
    ego = scenario.stamps[scenario.ego_id]
    notes = [(f"{scenario.name}/{agent_id}", "beyond the number of agents to use") for agent_id in scenario.unused]
    for agent_id in scenario.agent_ids[1:]:
        own = scenario.stamps[agent_id]
        for missing, whose in ((ego - own, f"agent {agent_id}"), (own - ego, f"the ego {scenario.ego_id}")):
            if missing:
                notes.append((f"{scenario.name}/{agent_id}", f"{len(missing)} frames that {whose} lacks, from {min(missing)}"))
    return notes
