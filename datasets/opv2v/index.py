"""List the scenarios of an OPV2V split and the frames of each agent from the folder tree: no file is opened."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from heal.datasets.dataset import Collaboration, Skipped
from heal.datasets.split_names import find_split_in
from heal.types import is_roadside_name

NUMBER = re.compile(r"-?\d+")
EGO_NAME = "ego"
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
        stamps: agent -> number of a frame -> its stamp, the number as the files' names spell it.
        unused: agents that take no part, in order.
        has_maps: whether the cameras' visibility maps lie beside the metadata.
    """

    name: str
    agent_ids: tuple[str, ...]
    stamps: Mapping[str, Mapping[int, str]]
    unused: tuple[str, ...] = ()
    has_maps: bool = False

    @property
    def ego_id(self) -> str:
        """The agent in whose LiDAR frame the scenes are fused."""
        return self.agent_ids[0]

    @property
    def frame_numbers(self) -> list[int]:
        """The numbers of the ego's frames in order of time: each is a scene."""
        return sorted(self.stamps[self.ego_id])

    @cached_property
    def number_step(self) -> int:
        """The smallest difference between the numbers of two frames; 1 for a single frame."""
        numbers = sorted({number for stamps in self.stamps.values() for number in stamps})
        return min((after - before for before, after in pairwise(numbers)), default=1)

    def agents_at(self, number: int) -> tuple[str, ...]:
        """Return the agents with a frame of this number, the ego first."""
        return tuple(agent_id for agent_id in self.agent_ids if number in self.stamps[agent_id])


def find_split_folder(root: Path, split: str) -> tuple[Path, str]:
    """Return the folder of a split, and the split's name on disk.

    The name may be a synonym ("val" for "validate"). A split that was unpacked into a folder of its own name is found there.

    Raises:
        NoSplitError: there is no such folder; the message names the existing splits.
    """
    name = find_split_in(root, split)
    folder = root / name
    while [path.name for path in folder.iterdir() if path.is_dir()] == [name] and not _holds_agents(folder / name):
        folder = folder / name
    return folder, name


def _holds_agents(folder: Path) -> bool:
    """Whether a folder is a scenario: it holds folders with metadata."""
    files = (file for path in folder.iterdir() if path.is_dir() for file in path.iterdir())
    return any(METADATA_NAME.fullmatch(file.name) for file in files)


def list_scenarios(folder: Path, is_roadside: Callable[[str], bool] = is_roadside_name) -> tuple[list[Scenario], Skipped]:
    """List the scenarios of a split.

    Args:
        folder: the split's folder.
        is_roadside: whether an agent of this name is a roadside unit.

    Returns:
        The scenarios in the order of their names, and the folders and frames that are skipped.
    """
    scenarios: list[Scenario] = []
    skipped: Skipped = []
    for path in sorted(folder.iterdir()):
        scenario = _list_scenario(path, skipped, is_roadside) if path.is_dir() else None
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
        used, beyond = order[:max_agents], order[max_agents:]
        chosen.append(replace(scenario, agent_ids=used, unused=(*beyond, *scenario.unused)))
        skipped.extend((f"{scenario.name}/{agent_id}", "beyond the number of agents to use") for agent_id in beyond)
        skipped.extend(_frames_alone(chosen[-1]))
    return chosen, skipped


def unknown_ego(scenarios: list[Scenario], ego_id: str | None) -> str | None:
    """Return that no scenario has the wanted ego, and which agents there are; None if no ego is wanted or there is no scenario."""
    if ego_id is None or not scenarios:
        return None
    known = sorted({agent_id for scenario in scenarios for agent_id in scenario.agent_ids})
    return f"unknown agent {ego_id!r} wanted as ego; there are {', '.join(known[:20])}"


def in_collaboration(
    scenarios: list[Scenario], collaboration: Collaboration, is_roadside: Callable[[str], bool]
) -> tuple[list[Scenario], Skipped]:
    """Choose and order the agents of every scenario for a mode of collaboration; the first one is the ego.

    Returns:
        The scenarios, and those that are left out because they have no agent that may be the ego.
    """
    chosen: list[Scenario] = []
    skipped: Skipped = []
    for scenario in scenarios:
        vehicles, roadside = (tuple(i for i in scenario.agent_ids if is_roadside(i) is wanted) for wanted in (False, True))
        by_roadside = collaboration in ("ic", "i2i")
        egos, others = (roadside, vehicles) if by_roadside else (vehicles, roadside)
        if not egos:
            kind = "roadside unit" if by_roadside else "vehicle"
            skipped.append((scenario.name, f"no {kind} to be the ego of the collaboration {collaboration}"))
        elif collaboration in ("vc", "ic"):
            chosen.append(replace(scenario, agent_ids=(*egos, *others)))
        else:
            chosen.append(replace(scenario, agent_ids=egos, unused=(*scenario.unused, *others)))
    return chosen, skipped


def agent_order(names: list[str], is_roadside: Callable[[str], bool] = is_roadside_name) -> list[str]:
    """Sort agents by their names as strings: "ego" comes first, roadside units (negative numbers, "rsu") after all vehicles."""
    return sorted(names, key=lambda name: (name.lower() != EGO_NAME, is_roadside(name), name))


def _list_scenario(folder: Path, skipped: Skipped, is_roadside: Callable[[str], bool]) -> Scenario | None:
    """List a scenario and append everything unusable to `skipped`; None for a folder without any frame."""
    stamps: dict[str, Mapping[int, str]] = {}
    has_maps = False
    empty: list[str] = []
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        names = [file.name for file in path.iterdir()]
        has_maps = has_maps or any(name.endswith(VISIBILITY_SUFFIX) for name in names)
        found = _usable_stamps(path, names, skipped)
        if found:
            stamps[path.name] = found
        elif NUMBER.fullmatch(path.name) or path.name.lower() == EGO_NAME:
            empty.append(path.name)
        else:
            skipped.append((f"{folder.name}/{path.name}", "not an agent: its name is no number, and no metadata (.yaml) is in it"))
    order, others = agent_order([*stamps, *empty], is_roadside), agent_order(list(stamps), is_roadside)
    for name in empty:
        is_first = name == order[0]
        change = f"; ATTENTION, {others[0]} is the ego in its place" if is_first and others else ""
        skipped.append((f"{folder.name}/{name}", f"no metadata (.yaml) in it{change}"))
    if not stamps:
        skipped.append((folder.name, "no agent with a frame in it"))
        return None
    return Scenario(folder.name, tuple(others), stamps, has_maps=has_maps)


def _usable_stamps(folder: Path, names: list[str], skipped: Skipped) -> dict[int, str]:
    """Return the stamps of the metadata among the file names of an agent's folder; append what cannot be used to `skipped`."""
    matches = [METADATA_NAME.fullmatch(name) for name in names]
    usable: dict[int, str] = {}
    # The longest spelling of a number comes first: files that belong to the metadata have as many digits.
    for stamp in sorted({match.group(1) for match in matches if match}, key=lambda stamp: (int(stamp), -len(stamp))):
        part = f"{folder.parent.name}/{folder.name}/{stamp}"
        if (folder.parent.name, stamp) in BROKEN_FRAMES:
            skipped.append((part, "known to be broken"))
        elif int(stamp) in usable:
            skipped.append((part, f"the same frame as {usable[int(stamp)]}"))
        else:
            usable[int(stamp)] = stamp
    return usable


def _frames_alone(scenario: Scenario) -> Skipped:
    """Return the frames that not both the ego and another agent have."""
    ego = scenario.stamps[scenario.ego_id]
    notes: Skipped = []
    for agent_id in scenario.agent_ids[1:]:
        own = scenario.stamps[agent_id]
        for having, lacking, whose in ((ego, own, f"agent {agent_id}"), (own, ego, f"the ego {scenario.ego_id}")):
            missing = having.keys() - lacking.keys()
            if missing:
                first = having[min(missing)]
                notes.append((f"{scenario.name}/{agent_id}", f"{len(missing)} frames that {whose} lacks, from {first}"))
    return notes
