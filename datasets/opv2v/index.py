"""Which frames an OPV2V split holds, from the folder tree alone: 10,000 frames are listed without opening a file."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from heal.datasets.dataset import DatasetError

AGENT_NAME = re.compile(r"-?\d+")
METADATA_NAME = re.compile(r"(\d+)\.(?:yaml|json)")
VISIBILITY_SUFFIX = "_bev_visibility.png"
# Its metadata is broken in the released data set.
BROKEN_FRAMES = frozenset({("2021_08_20_21_10_24", "000265")})

Skipped = list[tuple[str, str]]


@dataclass(frozen=True)
class Scenario:
    """One recording.

    Attributes:
        name: its folder.
        agent_ids: the agents in use, the ego first.
        stamps: the frames that each of them has, as a set.
        unused: agents beyond the limit, in order.
        has_maps: whether maps of what cameras see lie beside the metadata.
    """

    name: str
    agent_ids: tuple[str, ...]
    stamps: dict[str, frozenset[str]]
    unused: tuple[str, ...] = ()
    has_maps: bool = False

    @property
    def ego_id(self) -> str:
        """The agent in whose frame the scene is fused."""
        return self.agent_ids[0]

    @property
    def ego_stamps(self) -> list[str]:
        """The frames, in order of time: those that the ego has."""
        return sorted(self.stamps[self.ego_id], key=int)

    def agents_at(self, stamp: str) -> tuple[str, ...]:
        """The agents that have this frame, the ego first."""
        return tuple(agent_id for agent_id in self.agent_ids if stamp in self.stamps[agent_id])


def read_split(folder: Path) -> tuple[list[Scenario], Skipped]:
    """List a split.

    Returns:
        The scenarios in the order of their names, and what is skipped and why.

    Raises:
        DatasetError: no such split; the message names those that there are.
    """
    if not folder.is_dir():
        there = sorted(path.name for path in folder.parent.iterdir() if path.is_dir()) if folder.parent.is_dir() else []
        raise DatasetError(folder, f"no such split; {folder.parent} holds {', '.join(there) or 'nothing'}")
    scenarios: list[Scenario] = []
    skipped: Skipped = []
    for path in sorted(folder.iterdir()):
        scenario = _read_scenario(path, skipped) if path.is_dir() else None
        if scenario is not None:
            scenarios.append(scenario)
    return scenarios, skipped


def with_ego(scenarios: list[Scenario], ego_id: str | None, max_agents: int) -> tuple[list[Scenario], Skipped]:
    """Put `ego_id` first in every scenario and keep `max_agents` of each.

    Returns:
        The scenarios that have the ego, and what is left out: the others, agents beyond the limit, frames without the ego.
    """
    chosen: list[Scenario] = []
    skipped: Skipped = []
    for scenario in scenarios:
        everyone = scenario.agent_ids
        if ego_id is not None and ego_id not in everyone:
            skipped.append((scenario.name, f"no agent {ego_id} to be the ego"))
            continue
        order = everyone if ego_id is None else (ego_id, *(agent_id for agent_id in everyone if agent_id != ego_id))
        chosen.append(replace(scenario, agent_ids=order[:max_agents], unused=order[max_agents:]))
        skipped.extend(_gaps(chosen[-1]))
    return chosen, skipped


def agent_order(names: list[str]) -> list[str]:
    """The order of agents: names as strings, roadside units (negative numbers) after all vehicles."""
    return sorted(names, key=lambda name: (name.startswith("-"), name))


def _read_scenario(folder: Path, skipped: Skipped) -> Scenario | None:
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
        found = _read_stamps(path, names, skipped)
        if found:
            stamps[path.name] = found
        else:
            skipped.append((f"{folder.name}/{path.name}", "no metadata (.yaml) in it"))
    if not stamps:
        skipped.append((folder.name, "no agent with a frame in it"))
        return None
    return Scenario(folder.name, tuple(agent_order(list(stamps))), stamps, has_maps=has_maps)


def _read_stamps(folder: Path, names: list[str], skipped: Skipped) -> frozenset[str]:
    matches = [METADATA_NAME.fullmatch(name) for name in names]
    stamps = {match.group(1) for match in matches if match}
    broken = {stamp for stamp in stamps if (folder.parent.name, stamp) in BROKEN_FRAMES}
    skipped.extend((f"{folder.parent.name}/{folder.name}/{stamp}", "known to be broken") for stamp in sorted(broken))
    return frozenset(stamps - broken)


def _gaps(scenario: Scenario) -> Skipped:
    """What the choice of ego and the limit leave unused."""
    ego = scenario.stamps[scenario.ego_id]
    notes = [(f"{scenario.name}/{agent_id}", "beyond the number of agents to use") for agent_id in scenario.unused]
    for agent_id in scenario.agent_ids[1:]:
        own = scenario.stamps[agent_id]
        for missing, whose in ((ego - own, f"agent {agent_id}"), (own - ego, f"the ego {scenario.ego_id}")):
            if missing:
                notes.append((f"{scenario.name}/{agent_id}", f"{len(missing)} frames that {whose} lacks, from {min(missing)}"))
    return notes
